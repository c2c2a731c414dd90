#include "engines/onnxruntime/ort_check.hpp"

#include <algorithm>

#include "bundle/bundle_check.hpp"
#include "engines/engines.hpp"
#include "engines/open_axis.hpp"
#include "keystep/status.hpp"

namespace keystep::ort {
namespace {

std::string element_name(int type) {
  for (const DType dtype : {DType::float32, DType::int64, DType::uint8, DType::string}) {
    if (element_type(dtype) == type) return name(dtype);
  }
  return "ONNX element type " + std::to_string(type);
}

struct GraphTensor {
  std::string name;
  int element_type = 0;
  std::vector<std::int64_t> shape;  ///< -1: symbolic
};

class GraphReader {
 public:
  GraphReader(const Library& library, const Session& session) : library_(library), session_(session) {
    check(library.api().GetAllocatorWithDefaultOptions(&allocator_));
  }

  std::vector<GraphTensor> tensors(bool inputs) const {
    const Api& api = library_.api();
    std::size_t count = 0;
    check((inputs ? api.SessionGetInputCount : api.SessionGetOutputCount)(&session_, &count));
    std::vector<GraphTensor> all(count);
    for (std::size_t i = 0; i < count; ++i) {
      char* text = nullptr;
      check((inputs ? api.SessionGetInputName : api.SessionGetOutputName)(&session_, i, allocator_, &text));
      all[i].name = text;
      check(api.AllocatorFree(allocator_, text));
      TypeInfo* type = nullptr;
      check((inputs ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo)(&session_, i, &type));
      read_type(Handle<TypeInfo>(type, api.ReleaseTypeInfo), all[i]);
    }
    return all;
  }

 private:
  void read_type(const Handle<TypeInfo>& type, GraphTensor& tensor) const {
    const Api& api = library_.api();
    int kind = 0;
    check(api.GetOnnxTypeFromTypeInfo(type.get(), &kind));
    if (kind != kTensor) throw BundleError(expected(tensor.name, "a tensor (manifest)", "another ONNX type"));
    const TensorInfo* info = nullptr;  // part of `type`
    check(api.CastTypeInfoToTensorInfo(type.get(), &info));
    check(api.GetTensorElementType(info, &tensor.element_type));
    std::size_t rank = 0;
    check(api.GetDimensionsCount(info, &rank));
    tensor.shape.resize(rank);
    check(api.GetDimensions(info, tensor.shape.data(), rank));
  }
  void check(Status* status) const { library_.check<BundleError>(status, "graph"); }

  const Library& library_;
  const Session& session_;
  Allocator* allocator_ = nullptr;  // owned by the library
};

/// What the graph says of a tensor, against what the manifest says of it, and what is `wanted` with fewer
/// rows. `any_rows`: several numbers of them will run.
void check_tensor(const GraphTensor& tensor, const TensorSpec& manifest, const TensorSpec& wanted,
                  bool any_rows, const std::string& field) {
  if (tensor.element_type != element_type(wanted.dtype)) {
    throw BundleError(expected(field + ".dtype", std::string(name(wanted.dtype)) + " (manifest)",
                               element_name(tensor.element_type) + " (graph)"));
  }
  std::vector<std::int64_t> shape = tensor.shape;
  const bool any = any_rows && shape.size() == wanted.shape.size() && shape[0] == -1;
  if (any) shape[0] = wanted.shape[0];
  const bool open = open_axis(wanted) != OpenAxis::none && shape.size() == wanted.shape.size();
  if (open && shape[1] == -1) shape[1] = wanted.shape[1];
  if (shape == wanted.shape) return;
  const char* how = any_rows ? " with a symbolic first axis (manifest)"
                    : open   ? " with a symbolic second axis (manifest)"
                             : " (manifest)";
  throw BundleError(
      expected(field + ".shape", to_string(manifest.shape) + how, to_string(tensor.shape) + " (graph)"));
}

/// One side of the graph. `spec` tells which tensors have rows, `wanted` how many there are.
void check_tensors(const GraphSpec& spec, const std::vector<TensorSpec>& wanted, bool several,
                   const std::vector<GraphTensor>& graph, const std::string& side) {
  const std::vector<TensorSpec>& whole = side == "inputs" ? spec.inputs : spec.outputs;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::string field = at(side, i);
    const auto same = std::ranges::find(graph, wanted[i].name, &GraphTensor::name);
    if (same == graph.end()) {
      throw BundleError(
          expected(field + ".name", "'" + wanted[i].name + "' (manifest)", "no such tensor (graph)"));
    }
    check_tensor(*same, whole[i], wanted[i], several && has_rows(spec, whole[i]), field);
  }
  for (const GraphTensor& tensor : graph) {
    if (std::ranges::find(wanted, tensor.name, &TensorSpec::name) != wanted.end()) continue;
    throw BundleError(expected(side, "'" + tensor.name + "' (graph)", "no such tensor (manifest)"));
  }
}

}  // namespace

int element_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return kFloat32;
    case DType::int64:
      return kInt64;
    case DType::uint8:
      return kUint8;
    case DType::string:
      return kString;
  }
  return 0;
}

void check_graph(const Library& library, const Session& session, const GraphSpec& spec, int rows,
                 bool several) {
  const GraphReader reader(library, session);
  const GraphSpec wanted = with_rows(spec, rows);
  check_tensors(spec, wanted.inputs, several, reader.tensors(true), "inputs");
  check_tensors(spec, wanted.outputs, several, reader.tensors(false), "outputs");
}

}  // namespace keystep::ort
