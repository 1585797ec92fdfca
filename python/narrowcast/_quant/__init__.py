"""Quantization, dequantization, packing and loss scaling; the public names are in the package itself."""
