// Just enough of the safetensors format to write weights files from C++ tests, right ones and wrong ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "reference_unet.hpp"

namespace keystep::test {

struct FileTensor {
  std::string dtype;  ///< F32 | BF16 | I8
  std::vector<int> shape;
  std::string bytes;
};
using FileTensors = std::map<std::string, FileTensor>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// The bits of the nearest bfloat16, ties to even; NaN stays NaN.
inline std::uint16_t bf16_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_bf16(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// What the precision is about: convolutions and `film.weight`. All else stays float32.
inline bool is_converted(const StoredTensor& tensor) { return tensor.shape.size() == 3; }

/// Per output channel: greatest magnitude / 127.
inline std::vector<float> int8_scales(const StoredTensor& tensor) {
  const auto channels = static_cast<std::size_t>(tensor.shape.back());
  std::vector<float> scales(channels, 0);
  for (std::size_t i = 0; i < tensor.values.size(); ++i) {
    float& scale = scales[i % channels];
    scale = std::max(scale, std::abs(static_cast<float>(tensor.values[i])));
  }
  for (float& scale : scales) scale /= 127;
  return scales;
}

inline std::vector<std::int8_t> int8_values(const StoredTensor& tensor, const std::vector<float>& scales) {
  std::vector<std::int8_t> values;
  for (std::size_t i = 0; i < tensor.values.size(); ++i) {
    const float scale = scales[i % scales.size()];
    const float steps = scale == 0 ? 0 : std::nearbyint(static_cast<float>(tensor.values[i]) / scale);
    values.push_back(static_cast<std::int8_t>(std::clamp(steps, -127.0f, 127.0f)));
  }
  return values;
}

/// The weights that an engine computes with.
inline Weights rounded(Weights weights, const std::string& precision) {
  for (auto& [name, tensor] : weights) {
    if (precision == "fp32" || !is_converted(tensor)) continue;
    if (precision == "bf16") {
      for (double& value : tensor.values) value = from_bf16(bf16_bits(static_cast<float>(value)));
      continue;
    }
    const std::vector<float> scales = int8_scales(tensor);
    const std::vector<std::int8_t> steps = int8_values(tensor, scales);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      tensor.values[i] = double(scales[i % scales.size()]) * steps[i];
    }
  }
  return weights;
}

inline FileTensors file_tensors(const Weights& weights, const std::string& precision) {
  FileTensors tensors;
  for (const auto& [name, tensor] : weights) {
    const std::vector<float> values(tensor.values.begin(), tensor.values.end());
    if (precision == "fp32" || !is_converted(tensor)) {
      tensors[name] = {"F32", tensor.shape, bytes_of(values)};
    } else if (precision == "bf16") {
      std::vector<std::uint16_t> halves(values.size());
      std::transform(values.begin(), values.end(), halves.begin(), bf16_bits);
      tensors[name] = {"BF16", tensor.shape, bytes_of(halves)};
    } else {
      const std::vector<float> scales = int8_scales(tensor);
      tensors[name] = {"I8", tensor.shape, bytes_of(int8_values(tensor, scales))};
      tensors[name + ".scale"] = {"F32", {tensor.shape.back()}, bytes_of(scales)};
    }
  }
  return tensors;
}

/// 8 bytes of length, the header, the data.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(std::uint64_t{header.size()} >> 8 * i);
  return length + header + data;
}

inline const std::string kMetadata = R"("__metadata__": {"format": "keystep-unet1d", "version": "1"})";

/// The order of the tensors' bytes: wide types first, as the format's own library has it, so that all are
/// aligned.
inline std::vector<std::string> in_file_order(const FileTensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  const auto rank = [&](const std::string& name) {
    const std::string& dtype = tensors.at(name).dtype;
    return dtype.ends_with("8") ? 2 : dtype.ends_with("16") ? 1 : 0;
  };
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return rank(a) < rank(b); });
  return names;
}

inline std::string safetensors_header(const FileTensors& tensors) {
  std::string header = "{" + kMetadata;
  std::size_t at = 0;
  for (const std::string& name : in_file_order(tensors)) {
    const FileTensor& tensor = tensors.at(name);
    header += ", \"" + name + "\": {\"dtype\": \"" + tensor.dtype + "\", \"shape\": [";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      header += (i ? ", " : "") + std::to_string(tensor.shape[i]);
    }
    const std::size_t end = at + tensor.bytes.size();
    header += "], \"data_offsets\": [" + std::to_string(at) + ", " + std::to_string(end) + "]}";
    at = end;
  }
  header += "}";
  return header + std::string((8 - header.size() % 8) % 8, ' ');
}

inline std::string safetensors_data(const FileTensors& tensors) {
  std::string data;
  for (const std::string& name : in_file_order(tensors)) data += tensors.at(name).bytes;
  return data;
}

inline std::string safetensors_file(const FileTensors& tensors) {
  return safetensors_file(safetensors_header(tensors), safetensors_data(tensors));
}

}  // namespace keystep::test
