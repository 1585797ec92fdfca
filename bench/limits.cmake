# narrowcast._limits, the memory limit loops of the benchmark. Included by the root CMakeLists.txt once it has found
# Python and named the architecture. It links none of the core: the loops share no code with what they bound.
# Each vector unit gets the flags of its width alone, and no link-time optimisation that could mix them.

set(limits_sources limits_module.cpp limits_generic.cpp)
set(limits_definition "")
if(architecture STREQUAL "x86_64")
  list(APPEND limits_sources limits_avx2.cpp limits_avx512.cpp)
  set(limits_definition NARROWCAST_LIMITS_X86)
  set(avx2_flags $<IF:$<CXX_COMPILER_ID:MSVC>,/arch:AVX2,-mavx2>)
  set(avx512_flags $<IF:$<CXX_COMPILER_ID:MSVC>,/arch:AVX512,-mavx512f>)
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/limits_avx2.cpp PROPERTIES COMPILE_OPTIONS "${avx2_flags}")
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/limits_avx512.cpp PROPERTIES COMPILE_OPTIONS "${avx512_flags}")
elseif(architecture STREQUAL "aarch64")
  list(APPEND limits_sources limits_neon.cpp)
  set(limits_definition NARROWCAST_LIMITS_NEON)
endif()
list(TRANSFORM limits_sources PREPEND "${CMAKE_CURRENT_LIST_DIR}/")

python_add_library(_limits MODULE WITH_SOABI ${limits_sources})
target_link_libraries(_limits PRIVATE narrowcast_options)
target_compile_definitions(_limits PRIVATE ${limits_definition})
set_target_properties(_limits PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
# Optimised whatever the build type: a limit loop that is not is no limit.
target_compile_options(_limits PRIVATE $<IF:$<CXX_COMPILER_ID:MSVC>,/O2,-O3>)
install(TARGETS _limits DESTINATION narrowcast COMPONENT python)
