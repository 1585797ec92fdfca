"""Quantized files and configurations that lie, or that others wrote in their own way, before `dequantize_file`: one
sentence and nothing written, or the right answer.
"""

import json
import os
import shutil

import numpy as np
import pytest

import files
import files_quantized as fq
import narrowcast as nc


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    """Quantized directories of one shard: int4 with zero points, and int8."""
    folder = tmp_path_factory.mktemp("quantized")
    model = fq.make_model(folder / "model", shards=1)
    nc.quantize_file(model, folder / "int4", "int4", group_size=32, symmetric=False)
    nc.quantize_file(model, folder / "int8", "int8")
    return folder


NAME = "model.layers.0.self_attn.q_proj"


def spoil(folder, name, tensor):
    """Put something else in a tensor's place, or take it away."""
    (shard,) = folder.glob("*.safetensors")
    tensors, metadata = files.read_safetensors(shard)
    tensors[name] = tensor
    files.write(shard, {key: given for key, given in tensors.items() if given is not None}, metadata)
    index = json.loads((folder / fq.INDEX).read_text())
    where = {key: shard.name for key, given in tensors.items() if given is not None}
    (folder / fq.INDEX).write_text(json.dumps(index | {"weight_map": where}))


def numbers(*values):
    return files.tensor("int64", np.array(values, np.int64))


TENSORS = {
    "no scale": ("int4", "weight_scale", None, "no scale"),
    "no shape": ("int4", "weight_shape", None, "has no .weight_shape"),
    "no zero points": ("int4", "weight_zero_point", None, "weight_zero_point' is missing"),
    "scales of another shape": ("int4", "weight_scale", files.floats(1, (64, 3)), r"weight_scale' is F32 of shape"),
    "scales that are integers": ("int8", "weight_scale", numbers(*range(64)), "weight_scale' is I64"),
    "too few rows": ("int4", "weight_shape", numbers(63, 64), "weight_packed' is I32"),
    "too many columns": ("int4", "weight_shape", numbers(64, 65), "weight_packed' is I32"),
    "negative": ("int4", "weight_shape", numbers(64, -64), "not a length"),
    "enormous": ("int4", "weight_shape", numbers(64, 2**62), "more elements than any file"),
    "three numbers": ("int4", "weight_shape", numbers(64, 64, 1), "not two numbers"),
    "the weight too": ("int4", "weight", files.floats(1, (64, 64)), "weight' is there already"),
    "another order": ("int4", "weight_g_idx", numbers(*range(64)), "weight_g_idx"),
    "codes of one dimension": ("int8", "weight", files.tensor("int8", np.zeros(64, np.int8)), "1 dimensions"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit(case, compressed, out, tmp_path):
    """One sentence that names the file and the tensor, before anything is written."""
    which, end, tensor, words = TENSORS[case]
    shutil.copytree(compressed / which, tmp_path / "copy")
    spoil(tmp_path / "copy", f"{NAME}.{end}", tensor)
    with pytest.raises(ValueError, match=words) as caught:
        nc.dequantize_file(tmp_path / "copy", out / "new")
    assert "\n" not in str(caught.value)
    assert NAME in str(caught.value)
    assert ".safetensors: " in str(caught.value)
    assert files.names(out) == []


def set_config(model, **changes):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))


def group(**changes):
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"} | changes.pop("weights", {})
    return {"targets": ["Linear"], "weights": weights, "format": "int-quantized"} | changes


CONFIGS = {
    "another method": ({"quant_method": "gptq"}, "is of 'gptq'; known is compressed-tensors"),
    "a list": ([], "known is compressed-tensors"),
    "not compressed": ({"quantization_status": "frozen"}, "not compressed but 'frozen'"),
    "no groups": ({"config_groups": {}}, "no config_groups"),
    "groups a list": ({"config_groups": []}, "no config_groups"),
    "a group that is none": ({"config_groups": {"g": 3}}, "'g'"),
    "no weights": ({"config_groups": {"g": {"targets": ["Linear"], "format": "int-quantized"}}}, "'g'.*weights"),
    "no targets": ({"config_groups": {"g": {"weights": {}, "format": "int-quantized"}}}, "'g'.*targets"),
    "targets of numbers": ({"config_groups": {"g": group(targets=[3])}}, "'g'"),
    "a broken pattern": ({"config_groups": {"g": group(targets=["re:("])}}, "'g'"),
    "an unknown format": ({"config_groups": {"g": group(format="marlin-24")}}, "'marlin-24' is not known"),
    "an unknown strategy": ({"config_groups": {"g": group(weights={"strategy": "token"})}}, "'token' is not known"),
    "nine bits": ({"config_groups": {"g": group(weights={"num_bits": 9})}}, "9 bits"),
    "bits a word": ({"config_groups": {"g": group(weights={"num_bits": "8"})}}, "num_bits is '8'"),
    "groups of nothing": (
        {"config_groups": {"g": group(weights={"strategy": "group", "group_size": None})}},
        "group_size is None",
    ),
    "enormous groups": (
        {"config_groups": {"g": group(weights={"strategy": "group", "group_size": 2**63})}},
        r"config.json: .*'g': group_size is 9223372036854775808",
    ),
    "enormous blocks": (
        {"config_groups": {"g": group(weights={"strategy": "block", "block_structure": [1, 2**63]})}},
        r"config.json: .*'g': block_structure is \[1, 9223372036854775808\]",
    ),
    "floats with zero points": (
        {"config_groups": {"g": group(weights={"type": "float", "symmetric": False}, format="float-quantized")}},
        "'g': weights that are floats and not symmetric",
    ),
    "blocks of nothing": ({"config_groups": {"g": group(weights={"strategy": "block"})}}, "block_structure is None"),
    "of others": ({"config_groups": {"g": group(targets=["lm_head"])}}, "is not what quantization_config says"),
    "packed": ({"config_groups": {"g": group(format="pack-quantized")}}, "is not what quantization_config says"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations_that_do_not_fit(case, compressed, out, tmp_path):
    changes, words = CONFIGS[case]
    shutil.copytree(compressed / "int8", tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())["quantization_config"]
    set_config(tmp_path / "copy", quantization_config=config | changes if isinstance(changes, dict) else changes)
    with pytest.raises(ValueError, match=words) as caught:
        nc.dequantize_file(tmp_path / "copy", out / "new")
    assert "\n" not in str(caught.value)
    assert files.names(out) == []


def test_configurations_by_name_and_pattern(compressed, out, tmp_path):
    """Of several groups, as llm-compressor writes them, the one that names a module counts before its class."""
    shutil.copytree(compressed / "int8", tmp_path / "copy")
    wrong = group(weights={"symmetric": False})
    attention = {"targets": ["LlamaAttention"], "weights": None, "input_activations": {"num_bits": 8}}
    groups = {"a": wrong, "b": group(targets=["re:.*mlp[.].*", NAME, "re:.*k_proj$"]), "c": attention}
    config = json.loads((tmp_path / "copy" / "config.json").read_text())["quantization_config"]
    set_config(tmp_path / "copy", quantization_config=config | {"config_groups": groups})
    nc.dequantize_file(compressed / "int8", out / "wanted")
    nc.dequantize_file(tmp_path / "copy", out / "new")
    files.assert_same(fq.read_shards(out / "new"), fq.read_shards(out / "wanted"))


@pytest.mark.parametrize("bits", [3, 5, 6])
def test_words_with_gaps(bits, out, tmp_path, monkeypatch):
    """compressed-tensors before 0.18 put 32 // bits codes into a word and none across two."""

    def packed(codes):
        each = 32 // bits
        shifted = np.pad((codes + (1 << (bits - 1))).astype(np.uint64), ((0, 0), (0, -codes.shape[1] % each)))
        parts = shifted.reshape(len(codes), -1, each) << (bits * np.arange(each, dtype=np.uint64))
        return "int32", parts.sum(axis=2).astype(np.uint32)

    x = np.random.default_rng(bits).normal(0, 1, (130, 64)).astype(np.float32)
    nc.save_file({"up.weight": x}, tmp_path / "a.safetensors")
    nc.quantize_file(tmp_path / "a.safetensors", out / "b.safetensors", f"int{bits}", group_size=16, symmetric=False)
    nc.dequantize_file(out / "b.safetensors", out / "wanted.safetensors")
    q = nc.quantize(x, f"int{bits}", granularity="group", group_size=16, symmetric=False, dialect="compressed_tensors")
    tensors, metadata = files.read_safetensors(out / "b.safetensors")
    tensors["up.weight_packed"] = packed(q.codes.astype(np.int32))
    format, zero = packed(q.zero_point.T)
    tensors["up.weight_zero_point"] = format, np.ascontiguousarray(zero.T)
    files.write(tmp_path / "old.safetensors", tensors, metadata)
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 1 << 14)
    nc.dequantize_file(tmp_path / "old.safetensors", out / "c.safetensors")
    files.assert_same(files.read(out / "c.safetensors"), files.read(out / "wanted.safetensors"))


def test_metadata_alone(compressed, out, tmp_path):
    """A shard says itself how it was quantized; without that and without a configuration it cannot be read."""
    (shard,) = (compressed / "int4").glob("*.safetensors")
    source = shutil.copy(shard, tmp_path / "a.safetensors")
    nc.dequantize_file(source, out / "b.safetensors")
    nc.dequantize_file(compressed / "int4", out / "wanted")
    files.assert_same(files.read(out / "b.safetensors"), fq.read_shards(out / "wanted"))
    flaws = {
        "{": "not valid JSON",
        "[" * 100_000: "not valid JSON",
        f"[{'1' * 5000}]": "not valid JSON",
        "3": "is of 3",
    }
    for text, words in {None: "neither its metadata nor", **flaws}.items():
        metadata = {} if text is None else {"quantization_config": text}
        files.write(tmp_path / "a.safetensors", files.read(shard), metadata)
        with pytest.raises(ValueError, match=rf"a\.safetensors: .*{words}"):
            nc.dequantize_file(source, out / "c.safetensors")


def parted(compressed, folder, number):
    """A directory whose codes are in shard 1 and the scales of one weight in another."""
    shutil.copytree(compressed / "int4", folder)
    (whole,) = folder.glob("*.safetensors")
    tensors = files.read(whole)
    whole.unlink()
    (folder / fq.INDEX).unlink()
    scale = f"{NAME}.weight_scale"
    files.write(folder / f"model-{number}.safetensors", {scale: tensors.pop(scale)})
    files.write(folder / "model-1.safetensors", tensors)
    return folder / f"model-{number}.safetensors"


@pytest.mark.parametrize("number", [0, 2])
def test_scales_that_change_meanwhile(number, compressed, out, tmp_path):
    """They may lie in another shard than the codes: that one must not change either, done already or not."""
    shard = parted(compressed, tmp_path / "copy", number)

    def change(done, total):
        if done > total // 2:  # in the middle of the codes
            os.utime(shard, ns=(1, 1))

    with pytest.raises(ValueError, match="was changed while it was read"):
        nc.dequantize_file(tmp_path / "copy", out / "new", progress=change)
    assert not (out / "new").exists()
    assert nc.dequantize_file(tmp_path / "copy", out / "new").complete
    assert files.names(out / "new") == files.names(tmp_path / "copy")
    nc.dequantize_file(compressed / "int4", out / "wanted")
    found, wanted = fq.read_shards(out / "new"), fq.read_shards(out / "wanted")
    files.assert_same({name: found[name] for name in wanted}, wanted)


def test_scales_that_change_between_two_runs(compressed, out, tmp_path):
    """What was made with the old ones is not taken for done."""
    shard = parted(compressed, tmp_path / "copy", 2)

    def stop(*_):
        if list(out.glob(".*partial/tree/model-1.safetensors")):  # the codes are done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nc.dequantize_file(tmp_path / "copy", out / "new", progress=stop)
    ((name, (format, codes)),) = files.read(shard).items()
    files.write(shard, {name: (format, codes + np.uint16(0x80))})  # twice as large
    nc.dequantize_file(tmp_path / "copy", out / "new")
    before = nc.dequantize_file(compressed / "int4", out / "wanted")
    assert before.complete
    found, wanted = (nc.load_file(next((out / name).glob("model-*1*.safetensors"))) for name in ("new", "wanted"))
    x, y = (given[f"{NAME}.weight"].astype(np.float32) for given in (found, wanted))
    assert np.array_equal(x, 2 * y)
    assert np.any(y)
