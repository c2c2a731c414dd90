// The files that a manifest names: hashed, and kept in memory where an engine will load them, so that what
// was hashed is what is loaded.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include "keystep/bundle.hpp"

namespace keystep {

/// `name` as a regular file inside the folder, links resolved: what a manifest names never leads out of it.
/// Throws BundleError.
std::filesystem::path file_inside(const std::filesystem::path& folder, const std::string& name,
                                  const std::string& field, std::uintmax_t max_bytes);

/// The whole file. Throws BundleError.
std::string read_text(const std::filesystem::path& file, const std::string& field);

/// The manifest alone, checked. Throws BundleError.
Bundle open_bundle(const std::filesystem::path& folder);

/// Hashes every file that the manifest names, side by side on the cores that there are. The content of those
/// in `kept` goes to `bundle.files`. Throws BundleError.
void read_files(Bundle& bundle, const std::set<std::string>& kept);

}  // namespace keystep
