// An engine with memory of its own, for which what the stub engine computes in stands. Nothing reaches that
// memory, or comes back from it, without being carried over; what is carried is counted.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "engines/engines.hpp"
#include "keystep/engine.hpp"

namespace keystep::test {

struct Traffic {
  std::atomic<int> uploads = 0, downloads = 0;
  std::atomic<bool> fails = false;  ///< the next copy, and those after it
};

/// The host's copy of a tensor on the device. Before anything is carried over it holds what is no number.
class DeviceTensor final : public Tensor {
 public:
  DeviceTensor(Tensor& device, Traffic& traffic)
      : device_(device), traffic_(traffic), host_(make_host_tensor(device.spec)) {
    spec = device.spec;
    data = host_->data;
    if (spec.dtype == DType::float32) {
      std::fill_n(static_cast<float*>(data), spec.elements(), std::numeric_limits<float>::quiet_NaN());
    }
  }

  Status upload() noexcept override { return carry(data, device_.data, traffic_.uploads); }
  Status download() noexcept override { return carry(device_.data, data, traffic_.downloads); }

 private:
  Status carry(const void* from, void* to, std::atomic<int>& count) noexcept {
    if (traffic_.fails) return Status::engine_failure;
    ++count;
    if (spec.dtype == DType::string) {
      std::copy_n(static_cast<const std::string*>(from), spec.elements(), static_cast<std::string*>(to));
    } else {
      std::memcpy(to, from, spec.elements() * size_of(spec.dtype));
    }
    return Status::ok;
  }

  Tensor& device_;
  Traffic& traffic_;
  const std::unique_ptr<Tensor> host_;
};

class DeviceTensors final : public Tensors {
 public:
  DeviceTensors(std::unique_ptr<Tensors> device, Traffic& traffic)
      : device_(std::move(device)), traffic_(traffic) {}
  Tensors& device() { return *device_; }

 protected:
  std::unique_ptr<Tensor> make(const TensorSpec& spec) override {
    device_->add({"", "", {spec}, {}});
    return std::make_unique<DeviceTensor>(device_->at(spec), traffic_);
  }

 private:
  const std::unique_ptr<Tensors> device_;
  Traffic& traffic_;
};

class DeviceModel final : public Model {
 public:
  explicit DeviceModel(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::unique_ptr<Graph> bind(Tensors& tensors) const override {
    return model_->bind(dynamic_cast<DeviceTensors&>(tensors).device());
  }

 private:
  const std::shared_ptr<const Model> model_;
};

class DeviceEngine final : public Engine {
 public:
  DeviceEngine(const EngineOptions& options, Traffic& traffic)
      : stub_(make_engine(options)), traffic_(traffic) {}

  std::set<std::string> files(const GraphSpec& spec) override { return stub_->files(spec); }
  std::shared_ptr<const Model> load(const Files& files, const GraphSpec& spec,
                                    const std::vector<int>& rows) override {
    return std::make_shared<DeviceModel>(stub_->load(files, spec, rows));
  }
  std::unique_ptr<Tensors> tensors() const override {
    return std::make_unique<DeviceTensors>(stub_->tensors(), traffic_);
  }
  std::string description() const override { return "device"; }
  std::vector<EngineChoice> choices() const override { return stub_->choices(); }

 private:
  const std::unique_ptr<Engine> stub_;
  Traffic& traffic_;
};

}  // namespace keystep::test
