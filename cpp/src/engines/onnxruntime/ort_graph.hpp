// A graph of ONNX Runtime with its inputs and outputs bound once; a run is one call.
#pragma once

#include <memory>
#include <vector>

#include "engines/onnxruntime/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep {

/// What runs so many rows. On the CPU all have one session.
struct OnnxVariant {
  std::shared_ptr<ort::Session> session;
  GraphSpec spec;  ///< with these rows; it fits the session (`ort::check_graph`)
};

/// `copies_inputs`: the provider has memory of its own.
std::shared_ptr<const Model> make_onnx_model(std::shared_ptr<const ort::Library> library,
                                             std::vector<OnnxVariant> variants, bool copies_inputs);

}  // namespace keystep
