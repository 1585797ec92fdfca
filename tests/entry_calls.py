"""What a call comes to, and whether a compiled entry and the Python function behind it come to the same."""

import concurrent.futures
import copy

import numpy as np


def outcome(call, out=None):
    """What a call comes to: every bit of the values and of `out`, or the sentence of a refusal."""
    try:
        made = call()
    except Exception as error:  # whatever it is, it has to be the same
        return type(error), str(error), None if out is None else np.asarray(out).tobytes()
    array = np.asarray(made)
    return type(made), made is out, array.dtype, array.shape, array.tobytes()


def at_the_same_time(work, count=4):
    """Run `work` in so many threads, and raise what any of them raises."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()


def agree(functions, *arguments, out=None, **options):
    """Compare functions, each of which writes to a copy of `out`, or to what `out()` makes; return what came of it."""
    results = []
    for function in functions:
        if out is None:
            results.append(outcome(lambda f=function: f(*arguments, **options)))
        else:
            own = out() if callable(out) else copy.deepcopy(out)
            results.append(outcome(lambda f=function, o=own: f(*arguments, out=o, **options), own))
    assert all(result == results[0] for result in results)
    return results[0]


class Hostile:
    """An argument that will not be looked at."""

    def __hash__(self):
        raise RuntimeError("asked for a hash")

    def __repr__(self):
        return "hostile"
