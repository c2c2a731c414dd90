# Toolchain: Clang of the PyPI package `ziglang`, which brings every glibc's symbols. One compiler makes wheels for older
# systems than this one, and for aarch64:  cmake -DCMAKE_TOOLCHAIN_FILE=cmake/zig.cmake -DKEYSTEP_ZIG_TARGET=aarch64-linux-gnu.2.28
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES KEYSTEP_ZIG KEYSTEP_ZIG_TARGET)  # CMake's own checks read this file, too
if(NOT KEYSTEP_ZIG_TARGET)
  message(FATAL_ERROR "KEYSTEP_ZIG_TARGET: expected e.g. aarch64-linux-gnu.2.28, got nothing")
endif()
find_program(KEYSTEP_ZIG zig REQUIRED)

string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${KEYSTEP_ZIG_TARGET}")
set(CMAKE_SYSTEM_NAME Linux)  # cross-compiling, for x86-64 as well: nothing of this machine's libraries is taken
set(CMAKE_CXX_COMPILER "${KEYSTEP_ZIG}" c++ -target "${KEYSTEP_ZIG_TARGET}")
# binutils' ar and strip know the objects of this machine alone; the linker strips (-s).
set(CMAKE_STRIP true)
set(CMAKE_MODULE_LINKER_FLAGS_INIT -s)
set(CMAKE_CXX_ARCHIVE_CREATE "\"${KEYSTEP_ZIG}\" ar qc <TARGET> <LINK_FLAGS> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "\"${KEYSTEP_ZIG}\" ranlib <TARGET>")
# Zig compiles its libc++ once for every kind of build: only one is asked for, without link-time optimisation.
set(CMAKE_TRY_COMPILE_CONFIGURATION Release)
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)
