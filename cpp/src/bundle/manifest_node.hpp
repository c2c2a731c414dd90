// A JSON value that knows its path in the manifest, so that every refusal names the field.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "bundle/json_text.hpp"
#include "keystep/status.hpp"
#include "support/readable.hpp"

namespace keystep {

class ManifestNode {
 public:
  ManifestNode(const nlohmann::json& value, std::string path) : value_(value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  bool is_null() const { return value_.is_null(); }

  [[noreturn]] void refuse(const std::string& wanted) const {
    throw BundleError(expected(path_.empty() ? "manifest.json" : path_, wanted, summary(value_)));
  }

  /// An object with all of `required`, and nothing but those and `optional`.
  void check_keys(std::initializer_list<const char*> required,
                  std::initializer_list<const char*> optional = {}) const {
    check_names({required.begin(), required.size()}, {optional.begin(), optional.size()});
  }
  void check_keys(const std::vector<const char*>& required) const { check_names(required, {}); }

  bool contains(const char* key) const { return value_.is_object() && value_.contains(key); }

  ManifestNode operator[](const char* key) const {
    if (!contains(key)) throw BundleError(expected(child(key), "a value", "no such key"));
    return {value_.at(key), child(key)};
  }

  std::vector<ManifestNode> items() const {
    if (!value_.is_array()) refuse("an array");
    std::vector<ManifestNode> nodes;
    for (std::size_t i = 0; i < value_.size(); ++i) {
      nodes.emplace_back(value_[i], path_ + "[" + std::to_string(i) + "]");
    }
    return nodes;
  }

  /// The object's members, as (key, node).
  std::vector<std::pair<std::string, ManifestNode>> members() const {
    if (!value_.is_object()) refuse("an object");
    std::vector<std::pair<std::string, ManifestNode>> nodes;
    for (const auto& [key, value] : value_.items()) nodes.emplace_back(key, ManifestNode(value, child(key)));
    return nodes;
  }

  std::string text() const {
    if (!value_.is_string()) refuse("a string");
    return value_.get<std::string>();
  }

  std::string text_of(std::initializer_list<const char*> choices) const {
    const std::string got = text();
    std::string wanted;
    for (const char* choice : choices) {
      if (got == choice) return got;
      wanted += (wanted.empty() ? "" : " | ") + std::string(choice);
    }
    refuse(wanted);
  }

  bool boolean() const {
    if (!value_.is_boolean()) refuse("true or false");
    return value_.get<bool>();
  }

  std::int64_t integer(std::int64_t low, std::int64_t high) const {
    const std::string wanted = "an integer in " + std::to_string(low) + ".." + std::to_string(high);
    // Only an integer above the signed range is stored as unsigned *and* does not fit.
    if (!value_.is_number_integer()) refuse(wanted);
    if (value_.is_number_unsigned() && value_.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) refuse(wanted);
    const auto got = value_.get<std::int64_t>();
    if (got < low || got > high) refuse(wanted);
    return got;
  }

  double number() const {
    if (!value_.is_number() || !std::isfinite(value_.get<double>())) refuse("a finite number");
    return value_.get<double>();
  }

  std::vector<std::string> texts() const {
    std::vector<std::string> all;
    for (const ManifestNode& item : items()) all.push_back(item.text());
    return all;
  }

  /// Finite in type T too: 1e300 is no float.
  template <class T>
  std::vector<T> numbers() const {
    std::vector<T> all;
    for (const ManifestNode& item : items()) {
      if (std::abs(item.number()) > static_cast<double>(std::numeric_limits<T>::max())) {
        item.refuse("a finite number");
      }
      all.push_back(static_cast<T>(item.number()));
    }
    return all;
  }

 private:
  using Names = std::span<const char* const>;

  void check_names(Names required, Names optional) const {
    if (!value_.is_object()) refuse("an object");
    for (const char* key : required) {
      if (!value_.contains(key)) throw BundleError(expected(child(key), "a value", "no such key"));
    }
    const auto among = [](const auto& keys, const std::string& key) {
      return std::find(keys.begin(), keys.end(), key) != keys.end();
    };
    for (const auto& [key, value] : value_.items()) {
      if (among(required, key) || among(optional, key)) continue;
      std::string known;
      for (const auto& list : {required, optional}) {
        for (const char* name : list) known += (known.empty() ? "" : ", ") + std::string(name);
      }
      throw BundleError(expected(child(key), "one of the keys " + known, "an unknown key"));
    }
  }

  std::string child(const std::string& key) const {
    return path_.empty() ? readable(key) : path_ + "." + readable(key);
  }

  const nlohmann::json& value_;
  std::string path_;
};

}  // namespace keystep
