# Sets NLOHMANN_JSON_INCLUDE_DIR: from the PyPI package `nlohmann-json` (a build requirement), else from the system.
if(NOT Python3_EXECUTABLE AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(Python3_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")  # made by `make`
endif()
find_package(Python3 QUIET COMPONENTS Interpreter)
if(Python3_FOUND)
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -c
            "import importlib.util as u; print(u.find_spec('nlohmann_json').submodule_search_locations[0])"
    OUTPUT_VARIABLE NLOHMANN_JSON_PACKAGE OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_path(NLOHMANN_JSON_INCLUDE_DIR nlohmann/json.hpp HINTS "${NLOHMANN_JSON_PACKAGE}/include")
if(NOT NLOHMANN_JSON_INCLUDE_DIR)
  message(FATAL_ERROR "nlohmann/json.hpp not found: pip install nlohmann-json, or apt install nlohmann-json3-dev")
endif()
