#include "convert.hpp"

namespace keystep::python {

void bind_bundle(py::module_& module) {
  module.def(
      "read_manifest",
      [](py::handle path_or_text) {
        const std::filesystem::path folder = path(path_or_text, "path");
        py::gil_scoped_release release;
        return load_bundle(folder).manifest_json;
      },
      py::arg("folder"),
      "Checks the bundle and every file it names as the runtime does, returns manifest.json verbatim.");
  module.def("check_manifest", &check_manifest, py::arg("manifest"),
             "What `read_manifest` says of a manifest (JSON), without the files it names.");
  module.def(
      "sha256_file",
      [](py::handle path_or_text) {
        const std::filesystem::path file = path(path_or_text, "file");
        py::gil_scoped_release release;
        return sha256_file(file);
      },
      py::arg("file"), "Lower-case hexadecimal SHA-256 of a file.");
}

}  // namespace keystep::python
