# Language level, warnings and sanitizers of everything built here. No -march: a wheel runs on any x86-64 or arm64.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)  # GCC and Clang: -O3 -DNDEBUG
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options(-Wno-restrict)  # false alarms on std::string concatenation (GCC bug 105651)
endif()
if(KEYSTEP_WERROR)
  add_compile_options(-Werror)
endif()
if(KEYSTEP_SANITIZE)
  # -O1: every check is in the code just the same, which compiles in half the time.
  add_compile_options(-O1 -g1 -fsanitize=${KEYSTEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${KEYSTEP_SANITIZE})
endif()
