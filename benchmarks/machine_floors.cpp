// The walls of a machine: bytes read per second, and operations per second of each precision.
//   machine_floors read BYTES THREADS PASSES  ->  {"bytes_per_second": .., "how": ..}
//   machine_floors compute THREADS            ->  {"fp32": ..} and, where the CPU has such instructions, more
#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Line = long long __attribute__((vector_size(64)));

volatile long long sink;

// The shortest of several turns, each begun and ended together by all threads, in seconds.
template <class Work>
double best_turn(int threads, int turns, const Work& work) {
  std::vector<double> seconds;
  Clock::time_point start;
  std::barrier begin(threads), end(threads);
  auto body = [&](int thread) {
    for (int turn = 0; turn < turns; ++turn) {
      begin.arrive_and_wait();
      if (thread == 0) start = Clock::now();
      sink = work(thread);
      end.arrive_and_wait();
      if (thread == 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  };
  {
    std::vector<std::jthread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
    body(0);
  }
  return *std::min_element(seconds.begin(), seconds.end());
}

// ---- reading ------------------------------------------------------------------------------------

constexpr std::size_t kHugePage = 2u << 20;
constexpr std::size_t kBlock = 16;  // lines that are read from one stream before the next

// Like the weights of a network that is loaded once: in huge pages where the system gives them.
Line* make_lines(std::size_t count) {
  const std::size_t bytes = (count * sizeof(Line) / kHugePage + 2) * kHugePage;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  void* aligned =
      reinterpret_cast<void*>((reinterpret_cast<std::size_t>(memory) / kHugePage + 1) * kHugePage);
  madvise(aligned, bytes - kHugePage, MADV_HUGEPAGE);
  std::memset(aligned, 1, count * sizeof(Line));
  return static_cast<Line*>(aligned);
}

// An order of reading: a thread's share in `streams` that advance together, prefetched `ahead` bytes.
struct Order {
  int streams;
  std::size_t ahead;
  bool interleaved;  // threads take turns by 64 KiB instead of halves; then there is one stream
};

// One pass over `count` lines. Independent sums hide the latency of the addition; only loads are left.
template <bool kPrefetch>
long long read_span(const Line* data, std::size_t count, int streams, std::size_t ahead) {
  Line sums[8] = {};
  const std::size_t share = count / static_cast<std::size_t>(streams) / kBlock * kBlock;
  for (std::size_t i = 0; i < share; i += kBlock)
    for (int stream = 0; stream < streams; ++stream) {
      const Line* block = data + share * static_cast<std::size_t>(stream) + i;
#pragma GCC unroll 16
      for (std::size_t j = 0; j < kBlock; ++j) {
        if constexpr (kPrefetch) __builtin_prefetch(reinterpret_cast<const char*>(block + j) + ahead);
        sums[j % 8] += block[j];
      }
    }
  for (std::size_t i = share * static_cast<std::size_t>(streams); i < count; ++i) sums[0] += data[i];
  Line total = {};
  for (const Line& sum : sums) total += sum;
  return total[0];
}

long long read_span(const Line* data, std::size_t count, const Order& order) {
  return order.ahead ? read_span<true>(data, count, order.streams, order.ahead)
                     : read_span<false>(data, count, order.streams, 0);
}

// What one of the threads reads in a pass: together they read all of it, once.
long long read_share(const Line* data, std::size_t count, int thread, int threads, const Order& order) {
  const auto index = static_cast<std::size_t>(thread), parts = static_cast<std::size_t>(threads);
  if (!order.interleaved) {
    const std::size_t begin = count * index / parts, end = count * (index + 1) / parts;
    return read_span(data + begin, end - begin, order);
  }
  constexpr std::size_t kPiece = (64u << 10) / sizeof(Line);
  long long sum = 0;
  for (std::size_t begin = index * kPiece; begin < count; begin += parts * kPiece)
    sum += read_span(data + begin, std::min(kPiece, count - begin), order);
  return sum;
}

int measure_reading(std::size_t bytes, int threads, int passes) {
  const std::size_t count = bytes / sizeof(Line);
  const Line* data = make_lines(count);
  constexpr int kTurns = 3;
  double shortest = 0;
  Order best{};
  for (const bool interleaved : {false, true})
    for (const int streams : {1, 2, 4, 8})
      for (const std::size_t ahead : {0, 256, 512, 1024, 2048, 4096, 8192}) {
        if (interleaved && (streams > 1 || threads == 1)) continue;
        const Order order{streams, ahead, interleaved};
        const double seconds = best_turn(threads, kTurns, [&](int thread) {
          long long sum = 0;
          for (int pass = 0; pass < passes; ++pass) {
            asm volatile("" ::: "memory");  // or the compiler reads once for all passes
            sum += read_share(data, count, thread, threads, order);
          }
          return sum;
        });
        if (shortest != 0 && seconds >= shortest) continue;
        shortest = seconds;
        best = order;
      }
  std::printf(
      "{\"bytes_per_second\": %.6g, \"how\": \"%d streams a thread, %s, prefetched %zu bytes ahead\"}\n",
      static_cast<double>(count * sizeof(Line)) * passes / shortest, best.streams,
      best.interleaved ? "threads by turns of 64 KiB" : "threads apart", best.ahead);
  return 0;
}

// ---- computing ----------------------------------------------------------------------------------

using Floats = float __attribute__((vector_size(64)));

struct Fp32 {
  using Sum = Floats;
  using Factor = Floats;
  static constexpr double kOperations = 2 * 16;
  static Factor factor() { return Floats{} + 1e-3f; }
  static Sum run(Sum sum, Factor a, Factor b) { return a * b + sum; }
};
#ifdef __AVX512BF16__
struct Bf16 {
  using Sum = __m512;
  using Factor = __m512i;
  static constexpr double kOperations = 2 * 32;
  static Factor factor() { return _mm512_set1_epi16(0x3a83); }  // 1e-3
  static Sum run(Sum sum, Factor a, Factor b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};
#endif
#ifdef __AVX512VNNI__
struct Int16 {
  using Sum = __m512i;
  using Factor = __m512i;
  static constexpr double kOperations = 2 * 32;
  static Factor factor() { return _mm512_set1_epi16(1); }
  static Sum run(Sum sum, Factor a, Factor b) { return _mm512_dpwssd_epi32(sum, a, b); }
};
struct Int8 : Int16 {
  static constexpr double kOperations = 2 * 64;
  static Factor factor() { return _mm512_set1_epi8(1); }
  static Sum run(Sum sum, Factor a, Factor b) { return _mm512_dpbusd_epi32(sum, a, b); }
};
#endif

// 24 sums and two factors fit the 32 vector registers.
constexpr std::size_t kSums = 24, kIterations = 300'000;

template <class Kind>
long long multiply_add() {
  typename Kind::Sum sums[kSums] = {};
  // were they equal, the compiler would compute one for all
  for (std::size_t j = 0; j < kSums; ++j) sums[j][0] = static_cast<decltype(+sums[j][0])>(j);
  typename Kind::Factor a = Kind::factor(), b = Kind::factor();
  for (std::size_t i = 0; i < kIterations; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));  // or the compiler takes the product out of the loop
#pragma GCC unroll 24
    for (std::size_t j = 0; j < kSums; ++j) sums[j] = Kind::run(sums[j], a, b);
  }
  typename Kind::Sum total = {};
  for (const auto& sum : sums) total += sum;
  return static_cast<long long>(total[0]);
}

template <class Kind>
double rate(int threads) {
  constexpr int kTurns = 40;
  const double seconds = best_turn(threads, kTurns, [](int) { return multiply_add<Kind>(); });
  return Kind::kOperations * kSums * kIterations * threads / seconds;
}

int measure_computing(int threads) {
  std::printf("{\"fp32\": %.6g", rate<Fp32>(threads));
#ifdef __AVX512BF16__
  std::printf(", \"bf16\": %.6g", rate<Bf16>(threads));
#endif
#ifdef __AVX512VNNI__
  std::printf(", \"int16\": %.6g, \"int8\": %.6g", rate<Int16>(threads), rate<Int8>(threads));
#endif
  std::printf("}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "compute" && argc == 3 && std::atoi(argv[2]) >= 1) return measure_computing(std::atoi(argv[2]));
  if (what == "read" && argc == 5) {
    const std::size_t bytes = std::strtoull(argv[2], nullptr, 10);
    const int threads = std::atoi(argv[3]), passes = std::atoi(argv[4]);
    if (bytes >= 4096 && threads >= 1 && passes >= 1) return measure_reading(bytes, threads, passes);
  }
  std::fprintf(stderr,
               "usage: machine_floors read BYTES THREADS PASSES, with BYTES >= 4096\n"
               "       machine_floors compute THREADS\n");
  return 2;
}
