"""Packing in plain integers, a code at a time: what each layout is, written down from its owner's description.

It shares nothing with the package. A line of codes becomes one long Python integer, or words put together one by one;
whoever asks says along which axis.
"""

import numpy as np

# Widths, bits of a word, the owner's axis, and whether signed codes are stored with an offset.
LAYOUTS = {
    "lsb": (range(1, 9), 8, -1, False),
    "msb_nibble": ([4], 8, -1, False),
    "ggml": ([4], 8, -1, False),
    "quanto": ([2, 4], 8, 0, False),
    "gptq": ([2, 3, 4, 8], 32, -2, False),
    "awq": ([4], 32, -1, False),
    "compressed_tensors": (range(1, 9), 32, -1, True),
    "compressed_tensors_pre018": (range(1, 9), 32, -1, True),
    "marlin": ([4], 32, -2, False),
}
ROWS = [(name, bits) for name, (widths, *_) in LAYOUTS.items() for bits in widths]


def own_axis(layout, dimensions):
    axis = LAYOUTS[layout][2]
    return max(dimensions + axis, 0) if axis < 0 else axis


def pack(codes, bits, layout, axis=None):
    """Codes of any shape to words; what no code fills is zero. Negative codes are signed ones."""
    offset = 1 << (bits - 1) if LAYOUTS[layout][3] and codes.dtype.kind == "i" else 0
    fields = (codes.astype(np.int64) + offset) % (1 << bits)
    if layout == "marlin":
        return _tiles(fields)
    axis = own_axis(layout, codes.ndim) if axis is None else axis
    lines = np.moveaxis(fields, axis, -1)
    words = [_line([int(code) for code in line], bits, layout) for line in lines.reshape(-1, lines.shape[-1])]
    dtype = np.uint8 if LAYOUTS[layout][1] == 8 else np.uint32
    packed = np.array(words, dtype).reshape(*lines.shape[:-1], -1)
    return np.moveaxis(packed.view(np.int32) if dtype == np.uint32 else packed, -1, axis)


def _line(codes, bits, layout):
    def filled(count):
        return codes + [0] * (-len(codes) % count)

    if layout == "msb_nibble":
        line = filled(2)
        return [first << 4 | second for first, second in zip(line[::2], line[1::2], strict=True)]
    if layout == "ggml":
        line = filled(32)
        return [line[at + j] | line[at + j + 16] << 4 for at in range(0, len(line), 32) for j in range(16)]
    if layout == "quanto":
        strips = 8 // bits
        line = filled(strips)
        rows = len(line) // strips
        return [sum(line[i * rows + j] << bits * i for i in range(strips)) for j in range(rows)]
    if layout == "compressed_tensors_pre018":
        line = filled(32 // bits)
        return [_number(line[at : at + 32 // bits], bits) for at in range(0, len(line), 32 // bits)]
    if layout == "awq":
        line = filled(8)
        codes = [line[at + column] for at in range(0, len(line), 8) for column in (0, 2, 4, 6, 1, 3, 5, 7)]
    word = LAYOUTS[layout][1]
    stream, words = _number(codes, bits), -(-len(codes) * bits // word)
    return [stream >> word * i & (1 << word) - 1 for i in range(words)]


def _number(codes, bits):
    return sum(code << bits * i for i, code in enumerate(codes))


def _tiles(fields):
    """Marlin: from what each of 32 threads holds of a 16 x 16 tile, for four tiles side by side."""
    *outer, rows, columns = fields.shape
    words = []
    for matrix in fields.reshape(-1, rows, columns):
        for top in range(0, rows, 16):
            for left in range(0, columns, 64):
                for thread in range(32):
                    for tile in range(4):
                        column, row = left + 16 * tile + thread // 4, top + 2 * (thread % 4)
                        held = [matrix[row + down, column + half] for half in (0, 8) for down in (0, 1, 8, 9)]
                        words.append(_number([int(held[i]) for i in (0, 2, 4, 6, 1, 3, 5, 7)], 4))
    return np.array(words, np.uint32).view(np.int32).reshape(*outer, rows // 16, columns * 2)
