#include <pybind11/stl.h>

#include "bindings.hpp"

namespace keystep::python {

void bind_noise(py::module_& module) {
  module.def(
      "noise",
      [](const std::vector<py::ssize_t>& shape, std::uint64_t seed, std::uint32_t episode,
         std::uint32_t chunk, std::uint32_t step) {
        py::array_t<float> out(shape);
        fill_normal({seed, episode, chunk, step}, {out.mutable_data(), static_cast<std::size_t>(out.size())});
        return out;
      },
      py::arg("shape"), py::arg("seed"), py::arg("episode") = 0, py::arg("chunk") = 0, py::arg("step") = 0,
      "Standard normals, float32, of the counter-based generator (Philox 4x32-10, Salmon et al., SC "
      "2011).\n\n"
      "The runtime draws the initial sample of the n-th chunk of an episode with chunk=n, step=0 and the\n"
      "noise of denoise step k with step=k+1.");
}

}  // namespace keystep::python
