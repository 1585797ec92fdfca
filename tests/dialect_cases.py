"""Hard data for quantization: what random normal numbers never hit. Nothing here knows what a code should be.

Each case is a float32 matrix of ROWS x COLUMNS, one row per scale or one scale for all, whose values all dtypes of
SOURCES hold after one rounding; COLUMNS is no multiple of any vector, and every row meets body and tail.
"""

import functools

import ml_dtypes
import numpy as np

ROWS, COLUMNS = 6, 150
SOURCES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def rng(*key):
    return np.random.default_rng([ord(letter) for part in key for letter in str(part)])


def weights():
    """Weights as checkpoints have them: valued in bfloat16, a scale per row."""
    x = rng("weights").normal(0, 0.02, (ROWS, COLUMNS)) * np.geomspace(0.1, 10, ROWS)[:, None]
    return x.astype(ml_dtypes.bfloat16)


def small_integers():
    return rng("integers").integers(-300, 301, (ROWS, COLUMNS))


def ties():
    """Quarters, whose quotients by a power of two are on .5 half of the time; the ranges make the scales such."""
    x = rng("ties").integers(-512, 509, (ROWS, COLUMNS)) / 4
    x[:, 0], x[:, 1] = -128, 127  # asymmetric scale 1, zero point 0
    x[3:] = np.abs(x[3:])
    x[3:, :2] = [0, 127.5]  # scale 0.5
    return x


def halfway():
    """Values next to the middle of two codes of a scale that is no power of two."""
    code = rng("halfway").integers(-127, 128, (ROWS, COLUMNS))
    return (code + 0.5) * np.float32(0.0123) * np.array([1, 3, 10, 1 / 3, 7, 0.1])[:, None]


def powers():
    """Powers of two and their neighbours in float32 and float16."""
    exponent = rng("powers").integers(-12, 5, (ROWS, COLUMNS))
    beside = rng("beside").choice([0, 2.0**-11, -(2.0**-12), 2.0**-23, -(2.0**-24)], (ROWS, COLUMNS))
    return np.ldexp(rng("sign").choice([-1.0, 1.0], (ROWS, COLUMNS)) * (1 + beside), exponent)


def outlier():
    x = rng("outlier").normal(0, 0.01, (ROWS, COLUMNS))
    x[np.arange(ROWS), [0, 7, 64, COLUMNS - 1, 80, 3]] = [60, -60, 1000, -7, 3e4, 6.5]
    return x


def one_sided():
    """Ranges that do not hold zero, narrow ones among them."""
    x = rng("one sided").uniform(0, 1, (ROWS, COLUMNS))
    return x * [[1], [5], [2], [0.1], [30], [1]] + np.array([3, -9, 1, 100, -40, 0.5])[:, None]


def zeros():
    """Rows of zeros of both signs between others, and rows of one value."""
    x = rng("zeros").normal(0, 1, (ROWS, COLUMNS))
    x[1], x[2, ::2], x[2, 1::2], x[4], x[5] = 0, 0, -0.0, 2.5, -0.75
    return x


def tiny():
    """Denormal numbers, and ranges whose scale would be denormal."""
    x = rng("tiny").normal(0, 1, (ROWS, COLUMNS))
    return x * [[1e-39], [1e-37], [3e-36], [2e-7], [1e-5], [1e-45]]


def huge():
    """Ranges that overflow float32 (in float16: that dtype)."""
    x = rng("huge").uniform(-1, 1, (ROWS, COLUMNS))
    return x * [[3.4e38], [2e38], [6e4], [3e4], [1e38], [3.4e38]]


def special():
    """NaN and infinities of both signs, some alone in their row."""
    x = rng("special").normal(0, 1, (ROWS, COLUMNS))
    x[0, [0, 70, -1]] = np.nan, -np.nan, np.nan
    x[1, [3, 90, -1]] = np.inf, -np.inf, np.inf
    x[2, ::9], x[2, 1::9], x[2, 2::9] = np.nan, np.inf, -np.inf
    x[3], x[4] = np.nan, -np.inf
    x[5, 1:] = np.nan
    return x


# Where a package's answer is its own and defined; the rest is arithmetic past the end, for which the model speaks.
ORDINARY = (weights, small_integers, ties, halfway, powers, outlier, one_sided)
EXTREME = (zeros, tiny, huge, special)
CASES = {case.__name__: case for case in ORDINARY + EXTREME}


@functools.cache
def data(case, source="float32"):
    """The values of a case in a dtype of SOURCES; past the end of float16 they are its largest."""
    with np.errstate(all="ignore"):
        x = np.asarray(CASES[case]()).astype(np.float32)
        x = np.where(np.isinf(np.asarray(CASES[case]())), x, np.nan_to_num(x, nan=np.nan))
        if source == "float16":
            x = np.where(np.isinf(x), x, np.clip(x, -65504, 65504))
        x = x.astype(SOURCES[source])
    x.flags.writeable = False
    return x
