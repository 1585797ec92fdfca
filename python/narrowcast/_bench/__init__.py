"""The benchmark behind ``narrowcast bench``: checks that the bits are right, then times.

One number is never trusted alone: every cast is timed in turns with loops that only move the same bytes (the memory
limit) and with every other library found, on the same buffers, in the same run.

==================== ==================================================================
module               what is there
==================== ==================================================================
cli                  options, and the order of things
plan                 which casts are measured, at which sizes
formats              item sizes and numpy dtypes of the formats
inputs               values to time and values to check, and the one block of memory
reference            expected bits, from numpy and ml_dtypes
operations           quantize, dequantize, pack: which of them
operation_work       on what: their buffers, the call, what must come of it
reference_operations expected bits of these
check                comparison by bits, NaN by class
timing               turns, batches, best and spread
limits               the memory limit loops (``narrowcast._limits``)
peers                numpy + ml_dtypes, torch, NumKong, onnxruntime, jax
measure              one case: check, then time
measure_operations   the same for an operation on integer codes
peer_operations      what the peers have for these
calls                small calls and import time
models               made-up files of tensors, and their check
files                casts of files
machine              what the numbers belong to
results              the result file
goals                the project's goals (``goals.toml``) against a result
compare              two result files
report               tables
plot                 the picture
==================== ==================================================================
"""
