// Everything an ISA unit includes after its vec.hpp, in order. No guard.
#include "dispatch/kernel_table.hpp"
#include "format/format.hpp"

#include "kernels/run.inl.hpp"

#include "kernels/encode.inl.hpp"

#include "kernels/decode.inl.hpp"

#include "kernels/widen.inl.hpp"

#include "kernels/stochastic64.inl.hpp"

#include "kernels/philox.inl.hpp"

#include "kernels/census.inl.hpp"

#include "kernels/error.inl.hpp"

#include "kernels/unscale.inl.hpp"

#include "kernels/bitpack.inl.hpp"

#include "kernels/rows.inl.hpp"

#include "kernels/quantize_boxes.inl.hpp"

#include "kernels/quotient.inl.hpp"

#include "kernels/quantize.inl.hpp"

#include "kernels/dequantize.inl.hpp"

#include "kernels/range.inl.hpp"

#include "kernels/table.inl.hpp"
