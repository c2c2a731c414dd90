// The engine of our own CPU kernels: 1-D conditional U-Nets (kernels.hpp has how they work).
#pragma once

#include <memory>
#include <string>

#include "keystep/engine.hpp"

namespace keystep::native {

/// Throws ArgumentError.
void check_spin(int spin_us);

class NativeEngine {
 public:
  /// Throws ArgumentError: unknown `precision` or `isa`, an ISA this CPU lacks, `threads` or `spin_us` out of
  /// range. Its threads start with the first graph.
  explicit NativeEngine(const EngineOptions& options);
  ~NativeEngine();

  /// Why it cannot run this U-Net here, "field: expected X, got Y"; empty: it can.
  std::string refusal(const UnetSpec& unet) const;
  /// As `Engine::load`. `spec.unet` is not null and not refused, `files` has its file. The graph is `film`
  /// (it writes a condition) or a denoise step (it writes a model_output). Throws BundleError: tensors
  /// missing, of other shapes, not finite; ProviderError: the system has no more threads.
  std::shared_ptr<const Model> load(const Files& files, const GraphSpec& spec, const std::vector<int>& rows);
  /// What runs `unet`, e.g. "native avx512_bf16, bf16 weights, 2 threads".
  std::string description(const UnetSpec& unet) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep::native
