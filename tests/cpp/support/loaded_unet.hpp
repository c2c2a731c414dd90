// A U-Net loaded by the native engine, and what the reference makes of the same inputs.
#pragma once

#include <span>

#include "engines/cores.hpp"
#include "engines/native/native.hpp"
#include "policy/tensor_memory.hpp"
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
    const GraphSpec film_spec = film_graph(shape_, folder.spec);
    step_spec_ = step_graph(shape_, folder.spec);
    memory_.add(film_spec);
    memory_.add(step_spec_);
    film = engine.load(files_in(folder.path()), film_spec, source_of(memory_));
    step = engine.load(files_in(folder.path()), step_spec_, source_of(memory_));
  }

  std::span<float> condition() { return floats("condition"); }
  std::span<float> film_values() { return floats("film"); }
  std::span<float> sample() { return floats("sample"); }
  std::span<float> output() { return floats("model_output"); }
  std::int64_t& timestep() { return *static_cast<std::int64_t*>(memory_.buffers().at("timestep").data); }

  /// Row 0 alone of both rows.
  std::unique_ptr<Graph> one_row() const {
    UnetShape one = shape_;
    one.rows = 1;
    return step->rebind(step_graph(one, step_spec_.unet), memory_.buffers());
  }

  /// Normal random numbers into condition and sample, and a time-step.
  void draw(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const std::span<float> values : {condition(), sample()}) {
      for (float& value : values) value = normal(random);
    }
    timestep() = std::uniform_int_distribution<int>(0, shape_.train_steps - 1)(random);
  }

  bool run() { return film->run() == Status::ok && step->run() == Status::ok; }
  /// A copy of the output after `run`.
  std::vector<float> ran() {
    if (!run()) throw Error("run failed: " + film->error() + step->error());
    return {output().begin(), output().end()};
  }

  std::unique_ptr<Graph> film, step;

 private:
  std::span<float> floats(const std::string& name) {
    const Buffer& buffer = memory_.buffers().at(name);
    return {static_cast<float*>(buffer.data), buffer.spec.elements()};
  }
  UnetShape shape_;
  GraphSpec step_spec_;
  TensorMemory memory_;
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
