# The one list of instruction sets, best first. A row names the folder under cpp/src/isa/, the architecture it is
# built for, the compiler flags its unit gets, and the CPU bits (names of cpp/src/dispatch/cpu_features.hpp) that must
# all be present before its table is used. "scalar" is built everywhere, at the architecture's baseline.
#
#   narrowcast_isa(NAME ARCH "GCC/Clang flags" "MSVC flags" "needed CPU bits")
narrowcast_isa(avx512vbmi x86_64
  "-mavx2;-mf16c;-mfma;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vbmi;-mavx512bf16;-mprefer-vector-width=512"
  "/arch:AVX512" "avx2;f16c;fma;avx512f;avx512bw;avx512dq;avx512vl;avx512vbmi;avx512bf16")
narrowcast_isa(avx512 x86_64
  "-mavx2;-mf16c;-mfma;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mprefer-vector-width=512"
  "/arch:AVX512" "avx2;f16c;fma;avx512f;avx512bw;avx512dq;avx512vl")
narrowcast_isa(avx2 x86_64 "-mavx2;-mf16c;-mfma" "/arch:AVX2" "avx2;f16c;fma")
narrowcast_isa(neon aarch64 "" "" "asimd")
narrowcast_isa(scalar any "" "" "")
