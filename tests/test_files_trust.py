"""What a cast of a directory takes for its own, and who may see it: results and unfinished directories of other models
or users do not pass, permissions are kept.
"""

import os

import pytest

import files
import narrowcast as nc

pytestmark = pytest.mark.usefixtures("no_settling")

INDEX = "model.safetensors.index.json"
MANIFEST = "narrowcast.json"
NOBODY = 65534


@pytest.fixture
def model(tmp_path):
    return files.make_model(tmp_path / "model")


@pytest.fixture
def out(tmp_path):
    """An empty place for results, whose listing shows what is left behind."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def same_times(*folders):
    """Give every file the one time that archives and images have."""
    for folder in folders:
        for path in folder.rglob("*"):
            os.utime(path, ns=(0, 0))


def test_models_that_look_the_same(model, out, tmp_path):
    """Of the same names, sizes and times: neither a result nor what is half done passes for that of the other."""
    other = files.make_model(tmp_path / "other")
    shard = "model-00001-of-00003.safetensors"
    tensors = files.read(other / shard)
    tensors["layers.0.weight"] = files.floats(99, tensors["layers.0.weight"][1].shape)
    files.write(other / shard, tensors, {"format": "pt"})
    same_times(model, other)
    nc.cast_file(model, out / "done", "bfloat16")
    with pytest.raises(FileExistsError, match="--force"):
        nc.cast_file(other, out / "done", "bfloat16")
    for rank in range(2):
        nc.cast_file(model, out / "new", "bfloat16", rank=rank, world=3)
    nc.cast_file(other, out / "new", "bfloat16")
    wanted = {name: files.expected(given, "bfloat16") for name, given in tensors.items()}
    files.assert_same(files.read(out / "new" / shard), wanted)


@pytest.mark.parametrize("where", [100, -1])
def test_another_model_in_the_same_place(where, model, out):
    """The path, names, sizes and times are the same, only bytes are not: what is done is done again."""
    shard = model / "model-00001-of-00003.safetensors"
    files.write(shard, files.read(shard) | {"big": files.floats(5, (90_000,))})
    (model / INDEX).unlink()
    same_times(model)
    nc.cast_file(model, out / "done", "bfloat16")
    for rank in range(2):
        nc.cast_file(model, out / "new", "bfloat16", rank=rank, world=3)
    raw = bytearray(shard.read_bytes())
    at = raw.index(b'"layers.0.bias"') + 8 if where == 100 else len(raw) - 1
    raw[at] ^= 1
    shard.write_bytes(raw)
    same_times(model)
    with pytest.raises(FileExistsError, match="--force"):
        nc.cast_file(model, out / "done", "bfloat16")
    nc.cast_file(model, out / "new", "bfloat16")
    wanted = {name: files.expected(given, "bfloat16") for name, given in files.read(shard).items()}
    files.assert_same(files.read(out / "new" / shard.name), wanted)


@pytest.mark.parametrize("name", ["model-00002-of-00003.safetensors", "tokenizer.json", "config.json", INDEX])
def test_a_result_that_was_changed(name, model, out):
    """It does not pass for complete, though its sizes are right."""
    nc.cast_file(model, out / "new", "bfloat16")
    whole = files.contents(out / "new")
    raw = bytearray(whole[name])
    raw[-1] ^= 1
    (out / "new" / name).write_bytes(raw)
    with pytest.raises(FileExistsError, match=rf"has been changed \({name}\).*--force"):
        nc.cast_file(model, out / "new", "bfloat16")
    assert nc.cast_file(model, out / "new", "bfloat16", force=True).complete
    assert files.contents(out / "new") == whole


@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON", '{"job": 1, "files": {}}'])
def test_another_file_of_the_name_of_the_manifest(text, model, out):
    (model / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"narrowcast\.json has the name of the manifest.*rename it"):
        nc.cast_file(model, out / "new", "bfloat16")
    assert files.names(out) == []
    (model / MANIFEST).rename(model / "1_Pooling" / MANIFEST)
    nc.cast_file(model, out / "new", "bfloat16")
    assert (out / "new" / "1_Pooling" / MANIFEST).read_text() == text


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder):
    found = {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    return found | {".": folder.stat().st_mode & 0o777}


def test_a_private_model_stays_private(tmp_path, umask):
    """At every moment, and programs stay programs; what others may write is as the umask says."""
    model, out = files.make_model(tmp_path / "model"), tmp_path / "out"
    out.mkdir()
    (model / "empty").mkdir()
    for path in (model, *model.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    (model / "README.md").chmod(0o755)
    (model / "tokenizer.json").chmod(0o666)
    (model / "empty.txt").chmod(0o440)  # one's own result can be changed and removed
    (model / "empty").chmod(0o555)
    wanted = modes(model) | {"narrowcast.json": 0o644, "tokenizer.json": 0o644, "empty.txt": 0o640, "empty": 0o755}

    def look(*_):
        (staging,) = out.iterdir()
        assert staging.stat().st_mode & 0o777 == 0o700

    nc.cast_file(model, out / "new", "float16", progress=look)
    assert modes(out / "new") == wanted
    shard = model / "model-00001-of-00003.safetensors"

    def look_at_the_file(*_):
        (unfinished,) = (path for path in out.iterdir() if path.name != "new")
        assert unfinished.stat().st_mode & 0o777 == 0o600

    nc.cast_file(shard, out / "one.safetensors", "float16", progress=look_at_the_file)
    assert (out / "one.safetensors").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["", "tree", "scratch", "done", "tree/1_Pooling"])
@pytest.mark.parametrize("how", ["other", "link", "file"])
def test_a_staging_directory_of_another(how, what, tmp_path):
    """Nobody can put finished files under another one's name."""
    if how == "other" and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    model, target = files.make_model(tmp_path / "model"), tmp_path / "new"
    nc.cast_file(model, target, "float16", world=2)
    (staging,) = tmp_path.glob(".new.*-partial")
    victim = staging / what
    if how == "other":
        os.chown(victim, NOBODY, NOBODY)
    else:
        victim.rename(tmp_path / "elsewhere")
        if how == "link":
            victim.symlink_to(tmp_path / "elsewhere")
        else:
            victim.touch()
    with pytest.raises(ValueError, match=r"is a link or not yours"):
        nc.cast_file(model, target, "float16")
    assert not target.exists()
