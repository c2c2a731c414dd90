#include "engines/onnxruntime/ort_check.hpp"

#include <algorithm>

#include "bundle/bundle_check.hpp"
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

/// Whether the leading axis is the rows of guidance: then it may be symbolic, for one row or both.
bool has_rows(const TensorSpec& spec, const Buffers& bound) {
  if (spec.role != "sample" && spec.role != "model_output" && spec.role != "condition") return false;
  const auto found = bound.find(spec.name);  // as large as it ever gets; `spec` may be the first row alone
  const auto& shape = found != bound.end() ? found->second.spec.shape : spec.shape;
  return !shape.empty() && shape[0] == 2;
}

bool takes(std::vector<std::int64_t> graph, const TensorSpec& spec, const Buffers& bound) {
  if (!graph.empty() && graph.size() == spec.shape.size() && graph[0] == -1 && has_rows(spec, bound)) {
    graph[0] = spec.shape[0];
  }
  return graph == spec.shape;
}

void check_tensors(const std::vector<TensorSpec>& manifest, const std::vector<GraphTensor>& graph,
                   const Buffers& bound, const std::string& side) {
  for (std::size_t i = 0; i < manifest.size(); ++i) {
    const TensorSpec& spec = manifest[i];
    const std::string field = side + "[" + std::to_string(i) + "]";
    const auto same = std::find_if(graph.begin(), graph.end(),
                                   [&](const GraphTensor& tensor) { return tensor.name == spec.name; });
    if (same == graph.end()) {
      throw BundleError(
          expected(field + ".name", "'" + spec.name + "' (manifest)", "no such tensor (graph)"));
    }
    if (same->element_type != element_type(spec.dtype)) {
      throw BundleError(expected(field + ".dtype", std::string(name(spec.dtype)) + " (manifest)",
                                 element_name(same->element_type) + " (graph)"));
    }
    if (!takes(same->shape, spec, bound)) {
      throw BundleError(expected(field + ".shape", to_string(spec.shape) + " (manifest)",
                                 to_string(same->shape) + " (graph)"));
    }
  }
  for (const GraphTensor& tensor : graph) {
    const bool known = std::any_of(manifest.begin(), manifest.end(),
                                   [&](const TensorSpec& spec) { return spec.name == tensor.name; });
    if (!known)
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

void check_graph(const Library& library, const Session& session, const GraphSpec& spec,
                 const Buffers& bound) {
  const GraphReader reader(library, session);
  check_tensors(spec.inputs, reader.tensors(true), bound, "inputs");
  check_tensors(spec.outputs, reader.tensors(false), bound, "outputs");
}

}  // namespace keystep::ort
