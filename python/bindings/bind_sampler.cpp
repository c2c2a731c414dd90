#include <pybind11/stl.h>

#include "convert.hpp"
#include "keystep/sampler_fields.hpp"

namespace keystep::python {
namespace {

std::vector<std::string> field_names() {
  std::vector<std::string> names;
  for_each_sampler_field([&](const auto& field) { names.push_back(field.name); });
  return names;
}

SamplerSpec spec_from(const py::kwargs& fields) {
  const std::vector<std::string> known = field_names();
  py::object spec = py::cast(SamplerSpec{});
  for (const auto& [key, value] : fields) {
    const std::string name = text(key, "SamplerSpec's field");
    if (std::ranges::find(known, name) == known.end()) {
      throw py::type_error("SamplerSpec has no field " + in_quotes(name) + nearest(name, known));
    }
    spec.attr(key) = value;
  }
  return spec.cast<SamplerSpec>();
}

py::dict as_dict(const SamplerSpec& spec) {
  py::dict fields;
  for_each_sampler_field([&](const auto& field) { fields[field.name] = spec.*field.member; });
  return fields;
}

py::list texts_of(Choices choices) {
  py::list texts;
  for (const char* choice : choices) texts.append(choice);
  return texts;
}

/// The table, for those who must agree with it: name, choices, (low, high, open), default.
py::list sampler_fields() {
  py::list fields;
  for_each_sampler_field([&](const auto& field) {
    const py::tuple bounds = py::make_tuple(field.bounds.low, field.bounds.high, field.bounds.open);
    fields.append(
        py::make_tuple(field.name, texts_of(field.choices), bounds, py::cast(SamplerSpec{}.*field.member)));
  });
  return fields;
}

/// By name: whether it is a flow, its predictions, its rules of time-steps.
py::dict sampler_kinds() {
  py::dict kinds;
  for (const SamplerKind& kind : kSamplerKinds) {
    kinds[kind.name] = py::make_tuple(kind.flow, texts_of(kind.predictions), texts_of(kind.timestep_rules));
  }
  return kinds;
}

void bind_spec(py::module_& module) {
  py::class_<SamplerSpec> type(module, "SamplerSpec",
                               "All the settings of a sampler; the manifest's \"sampler\" object has exactly "
                               "these keys. Raises TypeError for another\nkey, ArgumentError for a value of "
                               "another type.");
  for_each_sampler_field(
      [&](const auto& field) { bind_field(type, field.name, field.member, field.meaning); });
  type.def(py::init(&spec_from))
      .def("validate", &validate, "Raises ArgumentError naming the first field that is out of range.")
      .def("as_dict", &as_dict, "The fields, as they stand in the manifest.")
      .def("__eq__", [](const SamplerSpec& a, const SamplerSpec& b) { return as_dict(a).equal(as_dict(b)); })
      .def("__repr__", [](const SamplerSpec& spec) {
        return "SamplerSpec(**" + py::cast<std::string>(py::repr(as_dict(spec))) + ")";
      });
  module.def("sampler_fields", &sampler_fields);
  module.def("sampler_kinds", &sampler_kinds);
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

/// The values of an array of the sample's shape.
std::span<const float> like(const py::array& sample, const py::array& given, const char* field) {
  if (given.ndim() == sample.ndim() &&
      std::equal(sample.shape(), sample.shape() + sample.ndim(), given.shape()))
    return values(given);
  throw ArgumentError(expected(field, "shape " + shape_text(sample.shape(), sample.ndim()),
                               shape_text(given.shape(), given.ndim())));
}

py::array_t<float> merge(const Sampler& sampler, py::handle number, py::handle weights, py::handle known,
                         py::handle before, py::handle sample, py::handle noise) {
  const int index = integer<int>(number, "index", 0, static_cast<int>(sampler.timesteps().size()) - 1);
  const py::array x = float_array(sample, "sample"), w = float_array(weights, "weights");
  const py::array y = float_array(known, "known"), old = float_array(before, "before");
  if (x.ndim() == 0 || x.size() == 0 || w.ndim() != 1 || w.size() != x.shape(0)) {
    throw ArgumentError(expected("weights", "one for each row of sample", shape_text(w.shape(), w.ndim())));
  }
  py::array z;
  if (sampler.needs_noise(index)) z = float_array(noise, "noise");
  const std::span<const float> drawn =
      sampler.needs_noise(index) ? like(x, z, "noise") : std::span<const float>{};
  py::array_t<float> out(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  const std::span<float> result(out.mutable_data(), static_cast<std::size_t>(out.size()));
  std::ranges::copy(values(x), result.begin());
  sampler.merge(index, values(w), like(x, y, "known"), like(x, old, "before"), drawn, result);
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
      .def("merge", &merge, py::arg("index"), py::arg("weights"), py::arg("known"), py::arg("before"),
           py::arg("sample"), py::arg("noise") = py::none())
      .def("guide", &guide, py::arg("conditional"), py::arg("unconditional"));
}

}  // namespace keystep::python
