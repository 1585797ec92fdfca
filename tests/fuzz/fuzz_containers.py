"""Coverage-guided fuzzing of the readers: python tests/fuzz/fuzz_containers.py KIND [libFuzzer options] CORPUS...

KIND is safetensors, npy or npz. Needs atheris (PyPI). What an input must hold to is `check_consistent` of
tests/containers.py; tests/test_fuzz_corpus.py holds the kept corpus to it without atheris.
"""

import pathlib
import shlex
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))


def repaired(kind, data):
    """The input with the length of its header put right, which a change of the header has made wrong."""
    if kind == "safetensors" and len(data) >= 8:
        return max(0, data.rfind(b"}") - 7).to_bytes(8, "little") + data[8:]
    if kind == "npy" and data[6:8] == b"\1\0":
        return data[:8] + (max(0, data.find(b"\n") - 9) & 0xFFFF).to_bytes(2, "little") + data[10:]
    return data


def main():
    import atheris

    import narrowcast  # noqa: F401 (of which only the readers are watched)

    with atheris.instrument_imports(include=["narrowcast._files", "zipfile"]):
        from containers import KINDS, check_consistent, replace_file

    kind = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if kind not in KINDS:
        raise SystemExit(__doc__)
    sys.argv[0] = shlex.join([sys.executable, __file__, kind])  # libFuzzer's way to run itself again, with -merge=1
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = pathlib.Path(folder) / f"input.{kind}"

        def test_one_input(data):
            replace_file(path, data)
            check_consistent(path)

        def mutate(data, max_size, seed):
            mutant = atheris.Mutate(data, max_size)
            return repaired(kind, mutant)[:max_size] if seed % 2 else mutant

        atheris.Setup(sys.argv, test_one_input, custom_mutator=mutate)
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
