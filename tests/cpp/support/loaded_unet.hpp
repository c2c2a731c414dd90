// A U-Net loaded by the native engine, and what the reference makes of the same inputs.
#pragma once

#include <numeric>
#include <span>

#include "bundle_fixture.hpp"
#include "engines/cores.hpp"
#include "engines/native/native.hpp"
#include "unet_fixture.hpp"

namespace keystep::test {

inline const std::vector<std::string> kPrecisions = {"fp32", "bf16", "int8"};

/// What the compiler says about this CPU, and not what the engine says.
inline bool cpu_runs(const std::string& isa) {
  if (isa == "portable") return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == "avx2") return avx2;
  if (isa == "avx512") return avx512;
  if (isa == "avx512_bf16") return avx512 && __builtin_cpu_supports("avx512bf16");
  if (isa == "avx512_vnni") return avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return false;
}

inline const std::vector<std::string> kIsas = {"portable", "avx2", "avx512", "avx512_bf16", "avx512_vnni"};

inline std::vector<std::string> isas_here() {
  std::vector<std::string> isas;
  std::copy_if(kIsas.begin(), kIsas.end(), std::back_inserter(isas), cpu_runs);
  return isas;
}

inline EngineOptions native_options(const std::string& isa, const std::string& precision, int threads = 1,
                                    bool pinned = false) {
  return {.threads = threads, .precision = precision, .isa = isa, .pin_threads = pinned, .spin_us = 0};
}

/// How many threads the tests may ask for.
inline int cores_here() { return usable_cores(); }

/// Both graphs of a U-Net with their memory. The engine outlives it.
class LoadedUnet {
 public:
  LoadedUnet(native::NativeEngine& engine, const UnetFolder& folder) : shape_(folder.shape) {
    const Files files = files_in(folder.path());
    std::vector<int> rows(static_cast<std::size_t>(shape_.rows));
    std::iota(rows.begin(), rows.end(), 1);
    film = bound(engine, files, film_graph(shape_, folder.spec), *tensors_, rows);
    step = bound(engine, files, step_graph(shape_, folder.spec), *tensors_, rows);
  }

  std::span<float> condition() { return floats("condition"); }
  std::span<float> film_values() { return floats("film"); }
  std::span<float> sample() { return floats("sample"); }
  std::span<float> output() { return floats("model_output"); }
  std::int64_t& timestep() { return *static_cast<std::int64_t*>(tensor("timestep", DType::int64).data); }

  /// Normal random numbers into condition and sample, and a time-step.
  void draw(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const std::span<float> values : {condition(), sample()}) {
      for (float& value : values) value = normal(random);
    }
    timestep() = std::uniform_int_distribution<int>(0, shape_.train_steps - 1)(random);
  }

  /// All rows.
  bool run() { return film->run(shape_.rows) == Status::ok && run_step() == Status::ok; }
  Status run_step() { return step->run(shape_.rows); }
  int rows() const { return shape_.rows; }
  /// A copy of the output after `run`.
  std::vector<float> ran() {
    if (!run()) throw Error("run failed: " + film->error() + step->error());
    return {output().begin(), output().end()};
  }

  std::unique_ptr<Graph> film, step;

 private:
  std::span<float> floats(const std::string& name) {
    const Tensor& found = tensor(name, DType::float32);
    return {static_cast<float*>(found.data), found.spec.elements()};
  }
  Tensor& tensor(const std::string& name, DType dtype) { return tensors_->at({name, dtype, {1}, ""}); }

  UnetShape shape_;
  std::unique_ptr<Tensors> tensors_ = make_host_tensors();
};

/// Row `row` of `values`, which have `rows` of them.
inline Values row_of(std::span<const float> values, int row, int rows) {
  const std::size_t size = values.size() / std::size_t(rows);
  const auto begin = values.begin() + std::ptrdiff_t(size) * row;
  return {begin, begin + std::ptrdiff_t(size)};
}

/// What `film` should have written.
inline Values wanted_film(const ReferenceUnet& reference, LoadedUnet& unet, const UnetShape& shape) {
  Values wanted;
  for (int row = 0; row < shape.rows; ++row) {
    const Values film = reference.film(row_of(unet.condition(), row, shape.rows));
    wanted.insert(wanted.end(), film.begin(), film.end());
  }
  return wanted;
}

/// What `step` should make of the film, sample and time-step that are there.
inline Values wanted_output(const ReferenceUnet& reference, LoadedUnet& unet, const UnetShape& shape) {
  Values wanted;
  for (int row = 0; row < shape.rows; ++row) {
    const Values flat = row_of(unet.sample(), row, shape.rows);
    Sequence sample;
    for (auto at = flat.begin(); at != flat.end(); at += shape.actions)
      sample.emplace_back(at, at + shape.actions);
    const Values film = row_of(unet.film_values(), row, shape.rows);
    for (const Values& at : reference.run(sample, static_cast<int>(unet.timestep()), film)) {
      wanted.insert(wanted.end(), at.begin(), at.end());
    }
  }
  return wanted;
}

/// Greatest difference relative to the greatest wanted magnitude; infinite where one is not finite.
template <class Got>
double deviation(const Got& got, const Values& wanted) {
  double worst = 0, scale = 1e-30;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double difference = std::abs(double(got[i]) - wanted[i]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : HUGE_VAL;
    scale = std::max(scale, std::abs(wanted[i]));
  }
  return got.size() == wanted.size() ? worst / scale : HUGE_VAL;
}

}  // namespace keystep::test
