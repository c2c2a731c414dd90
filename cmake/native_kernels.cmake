# The native engine's kernels: one file per instruction set, each with its own flags; which one runs is decided at run
# time. Elsewhere than on x86-64 all but the portable one compile to nothing.
set(KEYSTEP_KERNELS ${CMAKE_CURRENT_SOURCE_DIR}/src/engines/native/kernels_)
# Sums need neither errno of sqrt nor the order of a * b + c; GCC 12's AVX-512 headers cause false alarms (GCC bug 105593).
set(KEYSTEP_KERNEL_FLAGS -fno-math-errno -ffp-contract=fast)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND KEYSTEP_KERNEL_FLAGS -Wno-maybe-uninitialized -Wno-uninitialized)
endif()

function(keystep_kernel isa)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR isa STREQUAL "portable")
    set_source_files_properties(${KEYSTEP_KERNELS}${isa}.cpp PROPERTIES COMPILE_OPTIONS "${KEYSTEP_KERNEL_FLAGS};${ARGN}")
  endif()
endfunction()

set(KEYSTEP_AVX512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma)
keystep_kernel(portable)
keystep_kernel(avx2 -mavx2 -mfma)
keystep_kernel(avx512 ${KEYSTEP_AVX512})
keystep_kernel(avx512_bf16 ${KEYSTEP_AVX512} -mavx512bf16)
keystep_kernel(avx512_vnni ${KEYSTEP_AVX512} -mavx512vnni)
