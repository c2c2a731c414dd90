#include <algorithm>
#include <initializer_list>
#include <utility>

#include "bundle/bundle_check.hpp"
#include "engines/cores.hpp"
#include "engines/engines.hpp"
#include "engines/native/cpu.hpp"
#include "engines/native/native.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

void check_choice(const char* option, const std::string& got, std::initializer_list<const char*> choices) {
  if (std::ranges::find(choices, got) != choices.end()) return;
  std::string wanted;
  for (const char* choice : choices) wanted += (wanted.empty() ? "" : " | ") + std::string(choice);
  throw ArgumentError(expected(option, wanted, "'" + got + "'"));
}

/// Options of the native engine, for an engine that may use it.
void check_native(const EngineOptions& options) {
  if (!options.precision.empty()) native::precision_named(options.precision);
  native::isa_named(options.isa);
  native::check_spin(options.spin_us);
  const bool possible = options.engine == "auto" || options.engine == "native";
  for (const auto& [option, value] : {std::pair("precision", &options.precision), {"isa", &options.isa}}) {
    if (value->empty() || possible) continue;
    throw ArgumentError(expected(option, "none (engine " + options.engine + ")", "'" + *value + "'"));
  }
  const bool wanted = options.engine == "native" || !options.precision.empty() || !options.isa.empty();
  if (wanted && options.provider != "cpu") {
    throw ArgumentError(
        expected("provider", "cpu (engine native, its precision and isa)", "'" + options.provider + "'"));
  }
}

}  // namespace

std::unique_ptr<Engine> make_engine(const EngineOptions& options) {
  resolved_threads(options.threads);
  check_choice("engine", options.engine, {"auto", "native", "onnxruntime", "stub"});
  check_native(options);
  if (options.engine == "onnxruntime") return make_onnxruntime_engine(options);
  if (options.engine == "stub") return make_stub_engine(options);
  return make_auto_engine(options);
}

}  // namespace keystep
