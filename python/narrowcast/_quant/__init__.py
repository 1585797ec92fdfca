"""Integers: quantization, dequantization and packing; the public names are in the package itself."""
