// The part of ONNX Runtime's C ABI that keystep calls, declared here because the wheels carry no headers.
//
// `OrtGetApiBase()->GetApi(18)` returns a table of function pointers that later versions only append to, so
// a slot number and a signature are all that is needed. Nothing else in keystep includes this file but the
// other ort_* files and onnxruntime.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace keystep::ort {

inline constexpr std::uint32_t kApiVersion = 18;

// Opaque handles, owned by the library.
struct Status;
struct Env;
struct SessionOptions;
struct Session;
struct IoBinding;
struct RunOptions;
struct Value;
struct MemoryInfo;
struct Allocator;
struct TypeInfo;
struct TensorInfo;  // OrtTensorTypeAndShapeInfo
struct CudaOptions;
struct TensorRtOptions;

// Enumerations of the C API, with its values; passed as int, which is their underlying type.
enum LogLevel : int { kLogError = 3 };
enum OptimizationLevel : int {
  kOptimizeNone = 0,
  kOptimizeBasic = 1,
  kOptimizeExtended = 2,
  kOptimizeAll = 99
};
enum ExecutionMode : int { kSequential = 0 };
enum ElementType : int { kFloat32 = 1, kUint8 = 2, kInt64 = 7, kString = 8 };
enum OnnxType : int { kTensor = 1 };
enum AllocatorType : int { kDeviceAllocator = 0 };
enum MemType : int { kMemTypeDefault = 0 };

struct ApiBase {
  const void* const* (*GetApi)(std::uint32_t version) noexcept;
  const char* (*GetVersionString)() noexcept;
};

// X(slot, name, result, arguments...). Functions that return Status* return nullptr for success.
// clang-format off
#define KEYSTEP_ORT_CALLS(X)                                                                                  \
  X(2, GetErrorMessage, const char*, const Status*)                                                           \
  X(3, CreateEnv, Status*, int log_level, const char* log_id, Env**)                                          \
  X(6, DisableTelemetryEvents, Status*, const Env*)                                                           \
  X(8, CreateSessionFromArray, Status*, const Env*, const void* model, std::size_t bytes,                     \
    const SessionOptions*, Session**)                                                                         \
  X(10, CreateSessionOptions, Status*, SessionOptions**)                                                      \
  X(13, SetSessionExecutionMode, Status*, SessionOptions*, int)                                               \
  X(16, EnableMemPattern, Status*, SessionOptions*)                                                           \
  X(17, DisableMemPattern, Status*, SessionOptions*)                                                          \
  X(23, SetSessionGraphOptimizationLevel, Status*, SessionOptions*, int)                                      \
  X(24, SetIntraOpNumThreads, Status*, SessionOptions*, int)                                                  \
  X(25, SetInterOpNumThreads, Status*, SessionOptions*, int)                                                  \
  X(30, SessionGetInputCount, Status*, const Session*, std::size_t*)                                          \
  X(31, SessionGetOutputCount, Status*, const Session*, std::size_t*)                                         \
  X(33, SessionGetInputTypeInfo, Status*, const Session*, std::size_t index, TypeInfo**)                      \
  X(34, SessionGetOutputTypeInfo, Status*, const Session*, std::size_t index, TypeInfo**)                     \
  X(36, SessionGetInputName, Status*, const Session*, std::size_t index, Allocator*, char**)                  \
  X(37, SessionGetOutputName, Status*, const Session*, std::size_t index, Allocator*, char**)                 \
  X(39, CreateRunOptions, Status*, RunOptions**)                                                              \
  X(46, RunOptionsSetTerminate, Status*, RunOptions*)                                                         \
  X(47, RunOptionsUnsetTerminate, Status*, RunOptions*)                                                       \
  X(48, CreateTensorAsOrtValue, Status*, Allocator*, const std::int64_t* shape, std::size_t rank,             \
    int element_type, Value**)                                                                                \
  X(49, CreateTensorWithDataAsOrtValue, Status*, const MemoryInfo*, void* data, std::size_t bytes,            \
    const std::int64_t* shape, std::size_t rank, int element_type, Value**)                                   \
  X(55, CastTypeInfoToTensorInfo, Status*, const TypeInfo*, const TensorInfo**)                               \
  X(56, GetOnnxTypeFromTypeInfo, Status*, const TypeInfo*, int*)                                              \
  X(60, GetTensorElementType, Status*, const TensorInfo*, int*)                                               \
  X(61, GetDimensionsCount, Status*, const TensorInfo*, std::size_t*)                                         \
  X(62, GetDimensions, Status*, const TensorInfo*, std::int64_t*, std::size_t)                                \
  X(69, CreateCpuMemoryInfo, Status*, int allocator_type, int mem_type, MemoryInfo**)                         \
  X(76, AllocatorFree, Status*, Allocator*, void*)                                                            \
  X(78, GetAllocatorWithDefaultOptions, Status*, Allocator**)                                                 \
  X(92, ReleaseEnv, void, Env*)                                                                               \
  X(93, ReleaseStatus, void, Status*)                                                                         \
  X(94, ReleaseMemoryInfo, void, MemoryInfo*)                                                                 \
  X(95, ReleaseSession, void, Session*)                                                                       \
  X(96, ReleaseValue, void, Value*)                                                                           \
  X(97, ReleaseRunOptions, void, RunOptions*)                                                                 \
  X(98, ReleaseTypeInfo, void, TypeInfo*)                                                                     \
  X(100, ReleaseSessionOptions, void, SessionOptions*)                                                        \
  X(124, AddFreeDimensionOverrideByName, Status*, SessionOptions*, const char* name, std::int64_t)            \
  X(125, GetAvailableProviders, Status*, char***, int* count)                                                 \
  X(126, ReleaseAvailableProviders, Status*, char**, int count)                                               \
  X(130, AddSessionConfigEntry, Status*, SessionOptions*, const char* key, const char* value)                 \
  X(133, RunWithBinding, Status*, Session*, const RunOptions*, const IoBinding*)                              \
  X(134, CreateIoBinding, Status*, Session*, IoBinding**)                                                     \
  X(135, ReleaseIoBinding, void, IoBinding*)                                                                  \
  X(136, BindInput, Status*, IoBinding*, const char* name, const Value*)                                      \
  X(137, BindOutput, Status*, IoBinding*, const char* name, const Value*)                                     \
  X(170, SessionOptionsAppendExecutionProvider_TensorRT_V2, Status*, SessionOptions*, const TensorRtOptions*) \
  X(171, CreateTensorRTProviderOptions, Status*, TensorRtOptions**)                                           \
  X(172, UpdateTensorRTProviderOptions, Status*, TensorRtOptions*, const char* const* keys,                   \
    const char* const* values, std::size_t count)                                                             \
  X(174, ReleaseTensorRTProviderOptions, void, TensorRtOptions*)                                              \
  X(202, SynchronizeBoundInputs, Status*, IoBinding*)                                                         \
  X(204, SessionOptionsAppendExecutionProvider_CUDA_V2, Status*, SessionOptions*, const CudaOptions*)         \
  X(205, CreateCUDAProviderOptions, Status*, CudaOptions**)                                                   \
  X(206, UpdateCUDAProviderOptions, Status*, CudaOptions*, const char* const* keys,                           \
    const char* const* values, std::size_t count)                                                             \
  X(208, ReleaseCUDAProviderOptions, void, CudaOptions*)                                                      \
  X(216, SessionOptionsAppendExecutionProvider, Status*, SessionOptions*, const char* provider,               \
    const char* const* keys, const char* const* values, std::size_t count)                                    \
  X(228, RegisterCustomOpsLibrary_V2, Status*, SessionOptions*, const char* path)                             \
  X(252, GetResizedStringTensorElementBuffer, Status*, Value*, std::size_t index, std::size_t bytes, char**)  \
  X(279, AddExternalInitializersFromFilesInMemory, Status*, SessionOptions*, const char* const* names,        \
    char* const* contents, const std::size_t* bytes, std::size_t count)
// clang-format on

/// The calls above as typed members, copied out of the table once.
struct Api {
  explicit Api(const void* const* table) noexcept {
#define KEYSTEP_ORT_LOAD(slot, name, result, ...) \
  name = reinterpret_cast<result (*)(__VA_ARGS__) noexcept>(const_cast<void*>(table[slot]));
    KEYSTEP_ORT_CALLS(KEYSTEP_ORT_LOAD)
#undef KEYSTEP_ORT_LOAD
  }

#define KEYSTEP_ORT_DECLARE(slot, name, result, ...) result (*name)(__VA_ARGS__) noexcept;
  KEYSTEP_ORT_CALLS(KEYSTEP_ORT_DECLARE)
#undef KEYSTEP_ORT_DECLARE
};
#undef KEYSTEP_ORT_CALLS

}  // namespace keystep::ort
