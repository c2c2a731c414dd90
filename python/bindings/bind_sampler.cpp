#include <pybind11/stl.h>

#include "bindings.hpp"

namespace keystep::python {
namespace {

constexpr const char* kFields[] = {"kind",        "train_steps",      "inference_steps", "beta_schedule",
                                   "beta_start",  "beta_end",         "betas",           "prediction",
                                   "clip_sample", "clip_range",       "timestep_rule",   "steps_offset",
                                   "eta",         "set_alpha_to_one", "guidance",        "noise"};

SamplerSpec spec_from(const py::kwargs& fields) {
  py::object spec = py::cast(SamplerSpec{});
  for (const auto& [key, value] : fields) {
    if (!py::hasattr(spec, key))
      throw py::type_error("SamplerSpec has no field " + py::cast<std::string>(py::repr(key)));
    spec.attr(key) = value;
  }
  return spec.cast<SamplerSpec>();
}

py::dict as_dict(py::handle spec) {
  py::dict fields;
  for (const char* field : kFields) fields[field] = spec.attr(field);
  return fields;
}

void bind_spec(py::module_& module) {
  py::class_<SamplerSpec>(
      module, "SamplerSpec",
      "All the settings of a sampler; the manifest's \"sampler\" object has exactly these keys.")
      .def(py::init(&spec_from))
      .def_readwrite("kind", &SamplerSpec::kind)
      .def_readwrite("train_steps", &SamplerSpec::train_steps)
      .def_readwrite("inference_steps", &SamplerSpec::inference_steps)
      .def_readwrite("beta_schedule", &SamplerSpec::beta_schedule)
      .def_readwrite("beta_start", &SamplerSpec::beta_start)
      .def_readwrite("beta_end", &SamplerSpec::beta_end)
      .def_readwrite("betas", &SamplerSpec::betas)
      .def_readwrite("prediction", &SamplerSpec::prediction)
      .def_readwrite("clip_sample", &SamplerSpec::clip_sample)
      .def_readwrite("clip_range", &SamplerSpec::clip_range)
      .def_readwrite("timestep_rule", &SamplerSpec::timestep_rule)
      .def_readwrite("steps_offset", &SamplerSpec::steps_offset)
      .def_readwrite("set_alpha_to_one", &SamplerSpec::set_alpha_to_one)
      .def_readwrite("eta", &SamplerSpec::eta)
      .def_readwrite("guidance", &SamplerSpec::guidance)
      .def_readwrite("noise", &SamplerSpec::noise)
      .def("validate", &validate, "Raises ArgumentError naming the first field that is out of range.")
      .def("as_dict", &as_dict, "The fields, as they stand in the manifest.")
      .def("__eq__",
           [](py::object a, const SamplerSpec& b) { return as_dict(a).equal(as_dict(py::cast(b))); })
      .def("__repr__", [](py::object spec) {
        return "SamplerSpec(**" + py::cast<std::string>(py::repr(as_dict(spec))) + ")";
      });
}

py::array_t<float> step(const Sampler& sampler, int index, py::handle model_output, py::handle sample,
                        py::handle noise) {
  const py::array x = float_array(sample, "sample");
  const py::array output = float_array(model_output, "model_output");
  if (output.ndim() != x.ndim() || !std::equal(x.shape(), x.shape() + x.ndim(), output.shape())) {
    throw ArgumentError(expected("model_output", "shape " + shape_text(x.shape(), x.ndim()),
                                 shape_text(output.shape(), output.ndim())));
  }
  py::array noise_array;
  if (!noise.is_none()) noise_array = float_array(noise, "noise");
  if (noise.is_none() ? sampler.needs_noise(index) : noise_array.size() != x.size()) {
    throw ArgumentError(
        expected("noise", "shape " + shape_text(x.shape(), x.ndim()),
                 noise.is_none() ? "None" : shape_text(noise_array.shape(), noise_array.ndim())));
  }
  py::array_t<float> out(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  const std::span<float> result(out.mutable_data(), static_cast<std::size_t>(out.size()));
  std::ranges::copy(values(x), result.begin());
  sampler.step(index, values(output), noise.is_none() ? std::span<const float>{} : values(noise_array),
               result);
  return out;
}

py::array_t<float> guide(const Sampler& sampler, py::handle conditional, py::handle unconditional) {
  const py::array c = float_array(conditional, "conditional");
  const py::array u = float_array(unconditional, "unconditional");
  if (u.size() != c.size()) {
    throw ArgumentError(expected("unconditional", "shape " + shape_text(c.shape(), c.ndim()),
                                 shape_text(u.shape(), u.ndim())));
  }
  py::array_t<float> out(std::vector<py::ssize_t>(c.shape(), c.shape() + c.ndim()));
  const std::span<float> result(out.mutable_data(), static_cast<std::size_t>(out.size()));
  std::ranges::copy(values(c), result.begin());
  sampler.guide(result, values(u));
  return out;
}

}  // namespace

void bind_sampler(py::module_& module) {
  bind_spec(module);
  py::class_<Sampler>(module, "Sampler")
      .def(py::init<SamplerSpec>(), py::arg("spec"))
      .def_property_readonly("spec", &Sampler::spec, py::return_value_policy::copy)
      .def_property_readonly("timesteps", &Sampler::timesteps)
      .def_property_readonly("alphas_cumprod", &Sampler::alphas_cumprod)
      .def("needs_noise", &Sampler::needs_noise, py::arg("index"))
      .def("step", &step, py::arg("index"), py::arg("model_output"), py::arg("sample"),
           py::arg("noise") = py::none())
      .def("guide", &guide, py::arg("conditional"), py::arg("unconditional"));
}

}  // namespace keystep::python
