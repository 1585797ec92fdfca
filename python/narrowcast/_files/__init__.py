"""Files of tensors: read, written and cast without holding them in memory.

`container` says what a file of tensors is, `safetensors`, `npy` and `npz` read and write the three kinds, `stream`
casts from one to the other, `model` does directories.
"""
