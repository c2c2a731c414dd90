#include "engines/onnxruntime/ort_providers.hpp"

#include <algorithm>

#include "keystep/status.hpp"

namespace keystep::ort {
namespace {

using Options = std::map<std::string, std::string>;

/// The C API takes options as two arrays of pointers.
struct KeyValues {
  explicit KeyValues(const Options& options) {
    for (const auto& [key, value] : options) {
      keys.push_back(key.c_str());
      values.push_back(value.c_str());
    }
  }
  std::vector<const char*> keys, values;
};

struct Provider {
  const char* name;
  const char* ort_name;
  const char* needs;
};

constexpr Provider kProviders[] = {
    {"cpu", "CPUExecutionProvider", "pip install onnxruntime"},
    {"openvino", "OpenVINOExecutionProvider", "pip install onnxruntime-openvino (in place of onnxruntime)"},
    {"cuda", "CUDAExecutionProvider",
     "pip install onnxruntime-gpu (in place of onnxruntime), with the CUDA and cuDNN libraries it names"},
    {"tensorrt", "TensorrtExecutionProvider",
     "pip install onnxruntime-gpu (in place of onnxruntime) and 'tensorrt-cu13>=10,<11', whose "
     "libnvinfer.so.10 "
     "it links (plain tensorrt brings another): libnvinfer and libnvonnxparser must be found by the loader, "
     "beside the CUDA and cuDNN libraries"}};

const Provider& known_provider(const std::string& name) {
  for (const Provider& provider : kProviders) {
    if (name == provider.name) return provider;
  }
  throw ArgumentError(expected("provider", "cpu | openvino | cuda | tensorrt", "'" + name + "'"));
}

void check_available(const Library& library, const Provider& provider) {
  const std::vector<std::string> available = library.providers();
  if (std::find(available.begin(), available.end(), provider.ort_name) != available.end()) return;
  std::string names;
  for (const std::string& name : available) names += (names.empty() ? "" : ", ") + name;
  throw ProviderError(expected("provider", std::string(provider.name) + " (" + provider.ort_name + ")",
                               "onnxruntime " + library.version() + " with " + names + " only") +
                      "; " + provider.needs);
}

/// The first call, without options, loads the provider's own library: whatever fails in the second is the
/// caller's option.
template <class Update, class ProviderOptions>
void update(const Library& library, Update call, ProviderOptions* target, const Options& options,
            const std::string& what) {
  library.check<ProviderError>(call(target, nullptr, nullptr, 0), what);
  const KeyValues pairs(options);
  if (pairs.keys.empty()) return;
  library.check<ArgumentError>(call(target, pairs.keys.data(), pairs.values.data(), pairs.keys.size()),
                               "provider_options");
}

void append_cuda(const Library& library, const Options& options, SessionOptions& session,
                 const std::string& what) {
  const Api& api = library.api();
  CudaOptions* raw = nullptr;
  library.check<ProviderError>(api.CreateCUDAProviderOptions(&raw), what);
  const Handle<CudaOptions> cuda(raw, api.ReleaseCUDAProviderOptions);
  update(library, api.UpdateCUDAProviderOptions, raw, options, what);
  library.check<ProviderError>(api.SessionOptionsAppendExecutionProvider_CUDA_V2(&session, raw), what);
}

void append_tensorrt(const Library& library, const Options& options, SessionOptions& session,
                     const std::string& what) {
  const Api& api = library.api();
  TensorRtOptions* raw = nullptr;
  library.check<ProviderError>(api.CreateTensorRTProviderOptions(&raw), what);
  const Handle<TensorRtOptions> tensorrt(raw, api.ReleaseTensorRTProviderOptions);
  update(library, api.UpdateTensorRTProviderOptions, raw, options, what);
  library.check<ProviderError>(api.SessionOptionsAppendExecutionProvider_TensorRT_V2(&session, raw), what);
  append_cuda(library, {}, session, what);  // for the operators TensorRT does not take
}

void append_openvino(const Library& library, Options options, int threads, SessionOptions& session,
                     const std::string& what) {
  options.emplace("device_type", "CPU");
  if (options["device_type"] == "CPU") options.emplace("num_of_threads", std::to_string(threads));
  const KeyValues pairs(options);
  library.check<ProviderError>(
      library.api().SessionOptionsAppendExecutionProvider(&session, "OpenVINO", pairs.keys.data(),
                                                          pairs.values.data(), pairs.keys.size()),
      what);
}

}  // namespace

std::string provider_hint(const std::string& provider) { return known_provider(provider).needs; }

void append_provider(const Library& library, const EngineOptions& options, bool on_cpu, int threads,
                     SessionOptions& session) {
  const Provider& provider = known_provider(options.provider);
  check_available(library, provider);
  Options own;
  for (const auto& [key, value] : options.provider_options) {
    if (!key.starts_with("session.")) {
      own.emplace(key, value);
      continue;
    }
    library.check<ArgumentError>(library.api().AddSessionConfigEntry(&session, key.c_str(), value.c_str()),
                                 "provider_options." + key);
  }
  if (on_cpu && options.provider != "cpu") return;
  const std::string what = "provider " + options.provider + " (" + provider_hint(options.provider) + ")";
  if (options.provider == "openvino") return append_openvino(library, own, threads, session, what);
  if (options.provider == "cuda") return append_cuda(library, own, session, what);
  if (options.provider == "tensorrt") return append_tensorrt(library, own, session, what);
  if (own.empty()) return;
  throw ArgumentError(
      expected("provider_options", "none but session.* for cpu", "'" + own.begin()->first + "'"));
}

}  // namespace keystep::ort
