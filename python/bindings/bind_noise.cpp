#include "convert.hpp"

namespace keystep::python {
namespace {

/// Of an array that can be: numpy has at most 32 axes.
std::vector<py::ssize_t> shape_of(py::handle value) {
  constexpr std::size_t kMostAxes = 32;
  constexpr py::ssize_t kMostValues = py::ssize_t{1} << 28;  // 1 GiB
  if (!PyTuple_Check(value.ptr()) && !PyList_Check(value.ptr())) {
    throw ArgumentError(expected("shape", "a tuple of integers", shown(value)));
  }
  std::vector<py::ssize_t> shape;
  py::ssize_t count = 1;
  for (const py::handle extent : py::reinterpret_borrow<py::sequence>(value)) {
    const std::string field = "shape[" + std::to_string(shape.size()) + "]";
    shape.push_back(integer<py::ssize_t>(extent, field, 0, kMostValues / std::max<py::ssize_t>(count, 1)));
    count *= std::max<py::ssize_t>(shape.back(), 1);
  }
  if (shape.size() <= kMostAxes) return shape;
  throw ArgumentError(expected("shape", "at most 32 axes", std::to_string(shape.size())));
}

}  // namespace

void bind_noise(py::module_& module) {
  module.def(
      "noise",
      [](py::handle shape, py::handle seed, py::handle episode, py::handle chunk, py::handle step) {
        const NoiseKey key{integer<std::uint64_t>(seed, "seed"), integer<std::uint32_t>(episode, "episode"),
                           integer<std::uint64_t>(chunk, "chunk"), integer<std::uint32_t>(step, "step")};
        py::array_t<float> out(shape_of(shape));
        fill_normal(key, {out.mutable_data(), static_cast<std::size_t>(out.size())});
        return out;
      },
      py::arg("shape"), py::arg("seed"), py::arg("episode") = 0, py::arg("chunk") = 0, py::arg("step") = 0,
      "Standard normals, float32, of the counter-based generator (Philox 4x32-10, Salmon et al., SC "
      "2011).\n\n"
      "The runtime draws the initial sample of the n-th chunk of an episode with chunk=n, step=0 and the\n"
      "noise of denoise step k with step=k+1; plans with chunk=0x80000000 | n (n below 2**31).\n\n"
      "Raises ArgumentError: seed and chunk in 0..2**64-1, episode and step in 0..2**32-1, shape of at most\n"
      "32 axes and 2**28 values.");
}

}  // namespace keystep::python
