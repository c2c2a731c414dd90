// A library of custom operators for ONNX Runtime with one in it: ai.onnx.contrib's domain, "TextLength", from
// a string tensor of one element to its length in bytes. Declared here by slot, like ort_api.hpp.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engines/onnxruntime/ort_api.hpp"

namespace {

using namespace keystep::ort;

struct Domain;
struct KernelContext;
using Table = const void* const*;

/// The fields of OrtCustomOp up to its version 13; later ones are only read when `version` has them.
struct CustomOp {
  std::uint32_t version;
  void* (*create_kernel)(const CustomOp*, Table api, const void* info);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  int (*input_type)(const CustomOp*, std::size_t);
  std::size_t (*inputs)(const CustomOp*);
  int (*output_type)(const CustomOp*, std::size_t);
  std::size_t (*outputs)(const CustomOp*);
  void (*compute)(void* kernel, KernelContext*);
  void (*destroy_kernel)(void* kernel);
  int (*input_characteristic)(const CustomOp*, std::size_t);
  int (*output_characteristic)(const CustomOp*, std::size_t);
  int (*input_memory)(const CustomOp*, std::size_t);
};

template <class Result, class... Arguments>
Result call(Table table, std::size_t slot, Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(const_cast<void*>(table[slot]))(arguments...);
}

void compute(void* kernel, KernelContext* context) {
  const auto api = static_cast<Table>(kernel);
  const Value* text = nullptr;
  Value* length = nullptr;
  float* result = nullptr;
  std::size_t bytes = 0;
  const std::int64_t shape[] = {1};
  call<Status*>(api, 90, static_cast<const KernelContext*>(context), std::size_t{0}, &text);
  call<Status*>(api, 127, text, std::size_t{0}, &bytes);
  call<Status*>(api, 91, context, std::size_t{0}, static_cast<const std::int64_t*>(shape), std::size_t{1},
                &length);
  call<Status*>(api, 51, length, reinterpret_cast<void**>(&result));
  *result = static_cast<float>(bytes);
}

const CustomOp kTextLength = {
    .version = 13,
    .create_kernel = [](const CustomOp*, Table api, const void*) -> void* { return const_cast<void**>(api); },
    .name = [](const CustomOp*) { return "TextLength"; },
    .provider = [](const CustomOp*) -> const char* { return nullptr; },
    .input_type = [](const CustomOp*, std::size_t) -> int { return kString; },
    .inputs = [](const CustomOp*) -> std::size_t { return 1; },
    .output_type = [](const CustomOp*, std::size_t) -> int { return kFloat32; },
    .outputs = [](const CustomOp*) -> std::size_t { return 1; },
    .compute = compute,
    .destroy_kernel = [](void*) {},
    .input_characteristic = [](const CustomOp*, std::size_t) { return 0; },  // required
    .output_characteristic = [](const CustomOp*, std::size_t) { return 0; },
    .input_memory = [](const CustomOp*, std::size_t) -> int { return kMemTypeDefault; },
};

}  // namespace

extern "C" keystep::ort::Status* RegisterCustomOps(SessionOptions* options, const ApiBase* base) {
  static Table api = base->GetApi(kApiVersion);
  Domain* domain = nullptr;
  Status* status = call<Status*>(api, 26, "ai.onnx.contrib", &domain);
  const auto release = [](Domain* own) { call<void>(api, 101, own); };
  static std::vector<std::unique_ptr<Domain, decltype(release)>> domains;  // until the library is unloaded
  domains.emplace_back(domain, release);
  if (status == nullptr) status = call<Status*>(api, 27, domain, &kTextLength);
  if (status == nullptr) status = call<Status*>(api, 28, options, domain);
  return status;
}
