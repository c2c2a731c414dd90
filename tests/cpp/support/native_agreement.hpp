// The native engine's results beside the reference's, within what its precision explains.
#pragma once

#include "check.hpp"
#include "loaded_unet.hpp"

namespace keystep::test {

/// What a CPU that multiplies pairs of bfloat16 does to activations.
inline void round_to_bf16(Sequence& x) {
  for (Values& at : x) {
    for (double& value : at) value = from_bf16(bf16_bits(static_cast<float>(value)));
  }
}

/// Greatest deviations: of the film and the output with the weights as they are rounded, of the output with
/// those that were trained.
struct Deviations {
  double film, output, unrounded;
};

/// Sums are fp32 or exact, so only what is rounded counts: bfloat16 activations by what the same rounding
/// does to the reference, integers of 16 bits or a little fewer by a bound above what they do to these
/// U-Nets.
inline Deviations allowed(const std::string& isa, const std::string& precision, LoadedUnet& unet,
                          const UnetFolder& folder, const Weights& weights) {
  if (precision == "fp32") return {1e-4, 1e-4, 1e-4};
  if (precision == "int8") return {1e-3, 1e-3, 0.15};
  if (isa != "avx512_bf16") return {1e-4, 1e-4, 0.05};
  const Values exact = wanted_output({*folder.spec, weights}, unet, folder.shape);
  const double rounding =
      deviation(wanted_output({*folder.spec, weights, round_to_bf16}, unet, folder.shape), exact);
  CHECK(rounding < 0.05);
  return {1e-2, 1e-4 + 2 * rounding, 0.05};
}

inline Deviations measured(LoadedUnet& unet, const UnetFolder& folder, const Weights& weights) {
  const ReferenceUnet reference(*folder.spec, weights), trained(*folder.spec, folder.weights);
  return {deviation(unet.film_values(), wanted_film(reference, unet, folder.shape)),
          deviation(unet.output(), wanted_output(reference, unet, folder.shape)),
          deviation(unet.output(), wanted_output(trained, unet, folder.shape))};
}

/// Normal inputs, or what `prepare` makes of them.
inline void agrees(const UnetFolder& folder, const std::string& precision, const std::string& isa,
                   int threads, unsigned seed, const std::function<void(LoadedUnet&)>& prepare = {}) {
  native::NativeEngine engine(native_options(isa, precision, threads, seed % 2 == 1));
  CHECK(engine.refusal(*folder.spec) == "");
  const std::string what = isa + " " + precision + " (file " + folder.spec->precision + "), threads " +
                           std::to_string(threads) + ", " + folder.shape.text() + ": ";
  try {
    LoadedUnet unet(engine, folder);
    unet.draw(seed);
    if (prepare) prepare(unet);
    unet.ran();
    const Weights weights = rounded(rounded(folder.weights, folder.spec->precision), precision);
    const Deviations got = measured(unet, folder, weights);
    const Deviations most = allowed(isa, precision, unet, folder, weights);
    if (got.film <= most.film && got.output <= most.output && got.unrounded <= most.unrounded) return;
    const auto pair = [](double is, double limit) {
      return std::to_string(is) + " of " + std::to_string(limit);
    };
    fail(__FILE__, __LINE__,
         what + "film " + pair(got.film, most.film) + ", output " + pair(got.output, most.output) +
             ", unrounded " + pair(got.unrounded, most.unrounded));
  } catch (const Error& error) {
    fail(__FILE__, __LINE__, what + error.what());
  }
}

}  // namespace keystep::test
