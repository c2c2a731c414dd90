#include <pybind11/stl.h>

#include "convert.hpp"

namespace keystep::python {
namespace {

constexpr const char* kFields[] = {"kind",        "train_steps",      "inference_steps", "beta_schedule",
                                   "beta_start",  "beta_end",         "betas",           "prediction",
                                   "clip_sample", "clip_range",       "timestep_rule",   "steps_offset",
                                   "eta",         "set_alpha_to_one", "guidance",        "noise"};

SamplerSpec spec_from(const py::kwargs& fields) {
  py::object spec = py::cast(SamplerSpec{});
  for (const auto& [key, value] : fields) {
    const std::vector<std::string> fields_known(std::begin(kFields), std::end(kFields));
    const std::string name = text(key, "SamplerSpec's field");
    if (std::ranges::find(fields_known, name) == fields_known.end()) {
      throw py::type_error("SamplerSpec has no field " + in_quotes(name) + nearest(name, fields_known));
    }
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
  py::class_<SamplerSpec> type(module, "SamplerSpec",
                               "All the settings of a sampler; the manifest's \"sampler\" object has exactly "
                               "these keys. Raises TypeError for another\nkey, ArgumentError for a value of "
                               "another type.");
  bind_field(type, "kind", &SamplerSpec::kind);
  bind_field(type, "train_steps", &SamplerSpec::train_steps);
  bind_field(type, "inference_steps", &SamplerSpec::inference_steps);
  bind_field(type, "beta_schedule", &SamplerSpec::beta_schedule);
  bind_field(type, "beta_start", &SamplerSpec::beta_start);
  bind_field(type, "beta_end", &SamplerSpec::beta_end);
  bind_field(type, "betas", &SamplerSpec::betas);
  bind_field(type, "prediction", &SamplerSpec::prediction);
  bind_field(type, "clip_sample", &SamplerSpec::clip_sample);
  bind_field(type, "clip_range", &SamplerSpec::clip_range);
  bind_field(type, "timestep_rule", &SamplerSpec::timestep_rule);
  bind_field(type, "steps_offset", &SamplerSpec::steps_offset);
  bind_field(type, "set_alpha_to_one", &SamplerSpec::set_alpha_to_one);
  bind_field(type, "eta", &SamplerSpec::eta);
  bind_field(type, "guidance", &SamplerSpec::guidance);
  bind_field(type, "noise", &SamplerSpec::noise);
  type.def(py::init(&spec_from))
      .def("validate", &validate, "Raises ArgumentError naming the first field that is out of range.")
      .def("as_dict", &as_dict, "The fields, as they stand in the manifest.")
      .def("__eq__",
           [](py::object a, const SamplerSpec& b) { return as_dict(a).equal(as_dict(py::cast(b))); })
      .def("__repr__", [](py::object spec) {
        return "SamplerSpec(**" + py::cast<std::string>(py::repr(as_dict(spec))) + ")";
      });
}

py::array_t<float> step(const Sampler& sampler, py::handle number, py::handle model_output, py::handle sample,
                        py::handle noise) {
  const auto last = static_cast<int>(sampler.timesteps().size()) - 1;
  const int index = integer<int>(number, "index", 0, last);
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
  py::class_<Sampler>(module, "Sampler", "What `keystep.Sampler` wraps; see there.")
      .def(py::init([](py::handle spec) {
             if (py::isinstance<SamplerSpec>(spec)) return Sampler(spec.cast<SamplerSpec>());
             throw ArgumentError(expected("spec", "a SamplerSpec", shown(spec)));
           }),
           py::arg("spec"))
      .def_property_readonly("spec", &Sampler::spec, py::return_value_policy::copy)
      .def_property_readonly("timesteps", &Sampler::timesteps)
      .def_property_readonly("alphas_cumprod", &Sampler::alphas_cumprod)
      .def(
          "needs_noise",
          [](const Sampler& sampler, py::handle index) {
            return sampler.needs_noise(integer<int>(index, "index"));
          },
          py::arg("index"))
      .def("step", &step, py::arg("index"), py::arg("model_output"), py::arg("sample"),
           py::arg("noise") = py::none())
      .def("guide", &guide, py::arg("conditional"), py::arg("unconditional"));
}

}  // namespace keystep::python
