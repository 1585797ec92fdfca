"""The inputs that fuzzing has kept, each of which reaches a place in a reader that no other does; and some of them are
accepted, so that not all ends at the first check.
"""

import pathlib
import shutil

import pytest

from containers import check_consistent

CORPUS = pathlib.Path(__file__).parent / "fuzz" / "corpus"


@pytest.mark.parametrize("kind", ["safetensors", "npy"])
def test_kept_inputs_are_read_consistently_or_refused(tmp_path, kind):
    accepted = []
    for path in sorted((CORPUS / kind).iterdir()):
        copy = shutil.copy(path, tmp_path / f"input.{kind}")
        accepted.append(check_consistent(copy))
    assert len(accepted) > 20
    assert set(accepted) == {True, False}
