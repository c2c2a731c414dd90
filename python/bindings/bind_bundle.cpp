#include "convert.hpp"

namespace keystep::python {

void bind_bundle(py::module_& module) {
  module.def(
      "read_manifest",
      [](py::handle path_or_text) {
        const std::filesystem::path folder = path(path_or_text, "path");
        py::gil_scoped_release release;
        return check_bundle(folder).manifest_json;
      },
      py::arg("folder"),
      "Checks the bundle and every file it names as the runtime does, returns manifest.json verbatim.");
  module.def(
      "manifest_text",
      [](py::handle path_or_text) {
        const std::filesystem::path folder = path(path_or_text, "path");
        std::string content;
        {
          py::gil_scoped_release release;
          content = manifest_text(folder);
        }
        return py::bytes(content);
      },
      py::arg("folder"),
      "manifest.json as it stands: a regular file of at most 16 MiB, otherwise unchecked.");
  module.def(
      "check_manifest", [](py::handle manifest) { check_manifest(text(manifest, "manifest")); },
      py::arg("manifest"),
      "What `read_manifest` says of a manifest (JSON), without the files it names. ArgumentError for what is "
      "no text in UTF-8.");
  module.def(
      "read_files",
      [](py::handle path_or_text) {
        const std::filesystem::path folder = path(path_or_text, "path");
        const Bundle bundle = [&] {
          py::gil_scoped_release release;
          Bundle loaded = load_bundle(folder);
          check_external(loaded);
          return loaded;
        }();
        py::dict files;
        for (const auto& [name, content] : bundle.files) {
          files[py::str(name)] = py::bytes(reinterpret_cast<const char*>(content->data()), content->size());
        }
        return files;
      },
      py::arg("folder"),
      "Checks the bundle, and its graphs for files that the manifest does not name; the content of all that "
      "it names.");
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
