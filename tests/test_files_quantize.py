"""Files and directories quantized into the format of compressed-tensors, and back: every tensor, against quant_model
and a second account of the format; the index, the configuration, the report. Bad weather is in
test_files_quantize_trouble.py.
"""

import json
import math
import threading
import time

import numpy as np
import pytest

import files
import files_quantized as fq
import narrowcast as nc
from files_quantized import Case
from narrowcast._files import crew

CASES = [
    Case(),
    Case(symmetric=False),
    Case(group_size=16, codes="int3", symmetric=False),
    Case("int4", "channel"),
    Case("int4", "channel", symmetric=False),
    Case("int4", "tensor", symmetric=False),
    Case("int2", "block"),
    Case("int8", "channel", packed=False),
    Case("int8", "channel", symmetric=False, packed=False),
    Case("int8", "tensor", packed=False),
    Case("int8", "group", symmetric=False),
    Case("int8", "block", symmetric=False, packed=False),
    Case("int4", "block", symmetric=False),
    Case("float8_e4m3fn", "tensor", packed=False),
    Case("float8_e4m3fn", "channel", packed=False),
    Case("float8_e4m3fn", "block", packed=False),
]


@pytest.fixture
def small_pieces(monkeypatch):
    """Even small tensors in several pieces."""
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 4096)


def wanted(tensors, case):
    """What a file of these tensors becomes."""
    found = {}
    for name, given in tensors.items():
        is_linear = name.removesuffix(".weight") in fq.LINEAR
        found |= fq.expected(name, given, case) if is_linear else {name: given}
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_and_back(case, dtype, small_pieces, tmp_path):
    tensors = fq.weights(dtype)
    source = files.write(tmp_path / "a.safetensors", tensors, {"format": "pt"})
    report = nc.quantize_file(source, tmp_path / "b.safetensors", case.codes, **case.options)
    found, metadata = files.read_safetensors(tmp_path / "b.safetensors")
    files.assert_same(found, wanted(tensors, case))
    assert metadata["format"] == "pt"
    assert report.bytes_before == sum(codes.nbytes for _, codes in tensors.values())
    assert report.bytes_after == sum(codes.nbytes for _, codes in found.values())

    nc.dequantize_file(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    found, metadata = files.read_safetensors(tmp_path / "c.safetensors")
    linear = [f"{name}.weight" for name in fq.LINEAR]
    files.assert_same(found, {n: fq.restored(t, case) if n in linear else t for n, t in tensors.items()})
    assert metadata == {"format": "pt"}


def test_threads_and_pieces_change_nothing(tmp_path, monkeypatch):
    source = files.write(tmp_path / "a.safetensors", fq.weights())
    for case in (Case(symmetric=False), Case("float8_e4m3fn", "tensor", packed=False)):
        nc.quantize_file(source, tmp_path / "one.safetensors", case.codes, **case.options, force=True)
        nc.dequantize_file(tmp_path / "one.safetensors", tmp_path / "one-back.safetensors", force=True)
        with monkeypatch.context() as patch:
            patch.setattr("narrowcast._files.stream.PIECE_BYTES", 2048)
            nc.quantize_file(source, tmp_path / "three.safetensors", case.codes, **case.options, threads=3, force=True)
            nc.dequantize_file(
                tmp_path / "three.safetensors", tmp_path / "three-back.safetensors", threads=3, force=True
            )
        for end in ("", "-back"):
            one, three = (tmp_path / f"{name}{end}.safetensors" for name in ("one", "three"))
            assert one.read_bytes() == three.read_bytes()


def test_all_threads_have_the_chosen_instruction_set(small_pieces, tmp_path, monkeypatch):
    """Of the caller's context, which threads do not share by themselves."""
    source = files.write(tmp_path / "a.safetensors", fq.weights())
    seen, do = set(), crew.Worker.do

    def look(self, piece):
        seen.add((threading.current_thread(), nc.isa()))
        time.sleep(0.01)
        return do(self, piece)

    monkeypatch.setattr(crew.Worker, "do", look)
    with nc.use_isa("scalar"):
        nc.quantize_file(source, tmp_path / "b.safetensors", "int8", threads=3)
    assert {name for _, name in seen} == {"scalar"}
    assert len(seen) == 3


@pytest.mark.parametrize("calibration", ["mse", "percentile", "entropy"])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_calibration(calibration, granularity, small_pieces, tmp_path):
    """That of `quantize`, of the whole weight; and the better for mse."""
    x = np.random.default_rng(3).standard_t(3, (40, 64)).astype(np.float32)
    nc.save_file({"up.weight": x}, tmp_path / "a.safetensors")
    reports = {}
    for method in ("minmax", calibration):
        target = tmp_path / f"{method}.safetensors"
        reports[method] = nc.quantize_file(
            tmp_path / "a.safetensors", target, "int8", granularity=granularity, calibration=method
        )
    axis = {"axis": 0} if granularity == "channel" else {}
    q = nc.quantize(x, "int8", granularity=granularity, calibration=calibration, dialect="compressed_tensors", **axis)
    found = nc.load_file(tmp_path / f"{calibration}.safetensors")
    assert np.array_equal(found["up.weight"], q.codes)
    assert np.array_equal(found["up.weight_scale"].ravel(), np.ravel(q.scale))
    assert not np.array_equal(found["up.weight"], nc.load_file(tmp_path / "minmax.safetensors")["up.weight"]) or (
        calibration == "entropy"
    )
    if calibration == "mse":
        assert reports["mse"].sums.sqnr >= reports["minmax"].sums.sqnr


def test_scale_dtype(tmp_path):
    """Codes are made from the scale that is stored."""
    tensors = fq.weights("float32")
    source = files.write(tmp_path / "a.safetensors", tensors)
    nc.quantize_file(source, tmp_path / "b.safetensors", "int8", scale_dtype="bfloat16")
    found = nc.load_file(tmp_path / "b.safetensors")
    for name in fq.LINEAR:
        scale = found[f"{name}.weight_scale"]
        assert scale.dtype.name == "bfloat16"
        x = fq.array(tensors[f"{name}.weight"])
        codes = np.clip(np.rint(x / scale.astype(np.float32)), -128, 127)
        assert np.array_equal(found[f"{name}.weight"], codes)


@pytest.mark.parametrize("case", [Case(), Case("float8_e4m3fn", "tensor", packed=False)], ids=str)
def test_a_directory_and_back(case, small_pieces, tmp_path):
    """Shards, index, configuration, and what is not the model's: all of it, there and back."""
    model = fq.make_model(tmp_path / "model")
    before = files.contents(model)
    report = nc.quantize_file(model, tmp_path / "new", case.codes, **case.options)
    assert report.complete
    assert files.contents(model) == before
    tensors = fq.read_shards(model)
    found = fq.read_shards(tmp_path / "new")
    assert found.keys() == wanted(tensors, case).keys()
    files.assert_same({name: found[name] for name in wanted(tensors, case)}, wanted(tensors, case))

    index = json.loads((tmp_path / "new" / fq.INDEX).read_text())
    for name, shard in index["weight_map"].items():
        assert name in files.read(tmp_path / "new" / shard)
    assert index["weight_map"].keys() == found.keys()
    assert index["metadata"]["total_size"] == sum(codes.nbytes for _, codes in found.values())

    after = files.contents(tmp_path / "new")
    assert after.keys() == before.keys() | {"narrowcast.json"}
    changed = {name for name in before if after[name] != before[name]} - {"2_Dense/model.safetensors"}
    assert changed == {"config.json", fq.INDEX, *(path.name for path in model.glob("*.safetensors"))}
    dense = (files.read(folder / "2_Dense" / "model.safetensors") for folder in (tmp_path / "new", model))
    files.assert_same(*dense)  # beside a configuration that is none of a model

    nc.dequantize_file(tmp_path / "new", tmp_path / "back")
    linear = [f"{name}.weight" for name in fq.LINEAR]
    again = fq.read_shards(tmp_path / "back")
    files.assert_same(again, {n: fq.restored(t, case) if n in linear else t for n, t in tensors.items()})
    for name in ("config.json", fq.INDEX):
        assert json.loads((tmp_path / "back" / name).read_text()) == json.loads((model / name).read_text())


def test_the_configuration(tmp_path):
    """Word for word what compressed-tensors asks for."""
    model = fq.make_model(tmp_path / "model")
    nc.quantize_file(model, tmp_path / "new", "int4", group_size=32, symmetric=False, skip="*k_proj*")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config == json.loads((model / "config.json").read_text()) | {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {
                        "num_bits": 4,
                        "type": "int",
                        "symmetric": False,
                        "strategy": "group",
                        "group_size": 32,
                        "dynamic": False,
                    },
                    "input_activations": None,
                    "output_activations": None,
                    "format": "pack-quantized",
                }
            },
            "ignore": [fq.EMBEDDING, "model.layers.0.self_attn.k_proj", fq.HEAD],
        }
    }


def configured(tmp_path, *arguments, **options):
    nc.quantize_file(tmp_path / "model", tmp_path / "new", *arguments, **options, force=True)
    return json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]


def test_other_configurations(tmp_path):
    fq.make_model(tmp_path / "model")
    found = configured(tmp_path, "int8", dynamic_activations=True)
    group = found["config_groups"]["group_0"]
    assert (found["format"], group["weights"]["strategy"]) == ("int-quantized", "channel")
    assert group["input_activations"] == {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "token",
        "dynamic": True,
    }
    found = configured(tmp_path, "float8_e4m3fn", block_shape=(16, 32))
    weights = found["config_groups"]["group_0"]["weights"]
    assert (found["format"], weights["type"], weights["strategy"]) == ("float-quantized", "float", "block")
    assert weights["block_structure"] == [16, 32]
    assert configured(tmp_path, "int8", format="pack-quantized")["format"] == "pack-quantized"


def test_a_head_that_shares_the_embedding(tmp_path):
    """It is in no file, and must not be looked for in codes."""
    model = fq.make_model(tmp_path / "model", shards=1)
    (shard,) = model.glob("*.safetensors")
    tensors = files.read(shard)
    del tensors["lm_head.weight"]
    files.write(shard, tensors)
    index = json.loads((model / fq.INDEX).read_text())
    del index["weight_map"]["lm_head.weight"]
    (model / fq.INDEX).write_text(json.dumps(index))
    assert configured(tmp_path, "int8")["ignore"] == [fq.EMBEDDING, "re:(.*[.])?lm_head$"]


def test_only(tmp_path):
    """It may name what is not taken for a linear layer; that is then a target by its name."""
    fq.make_model(tmp_path / "model")
    found = configured(tmp_path, "int8", only=["*up_proj*", "lm_head*", "*embed*"])
    assert found["config_groups"]["group_0"]["targets"] == ["Linear", fq.EMBEDDING, fq.HEAD]
    left = sorted(name for name in fq.LINEAR if "up_proj" not in name)
    assert sorted(found["ignore"]) == left
    tensors = fq.read_shards(tmp_path / "new")
    assert {name for name, (format, _) in tensors.items() if format == "int8"} == {
        "model.layers.0.mlp.up_proj.weight",
        "lm_head.weight",
        "model.embed_tokens.weight",
    }


NAMES = {
    True: "model.layers.0.self_attn.q_proj  h.0.attn.dense  encoder.layer.0.output.dense  mlp.gate_proj  classifier "
    "block_sparse_moe.experts.0.w1  mlp.shared_expert.up_proj  visual.blocks.0.attn.qkv  encoder.block.0.layer.0.q",
    False: "model.embed_tokens  lm_head  transformer.wte  transformer.wpe  shared  embeddings.word_embeddings "
    "embeddings.token_type_embeddings  embeddings.position_embeddings  encoder.block.0.relative_attention_bias "
    "block_sparse_moe.gate  mlp.router  model.norm  input_layernorm  ln_f  q_proj.lora_A  embed_out "
    "cls.predictions.decoder",
}


@pytest.mark.parametrize("linear", [True, False])
def test_names(linear, tmp_path):
    """Which weights of two dimensions are taken for those of linear layers."""
    names = NAMES[linear].split()
    tensors = {f"{name}.weight": files.floats(1, (4, 8)) for name in names}
    tensors |= {"other.up_proj.weight": files.floats(1, (4, 8)), "up_proj.bias": files.floats(2, (4, 8))}
    tensors |= {
        "conv.weight": files.floats(1, (4, 8, 2, 2)),
        "codes.weight": files.tensor("int8", np.ones((4, 8), np.int8)),
    }
    source = files.write(tmp_path / "a.safetensors", tensors)
    report = nc.quantize_file(source, tmp_path / "b.safetensors", "int8")
    quantized = {tensor.name for tensor in report.tensors if tensor.targets} - {"other.up_proj.weight"}
    assert quantized == {f"{name}.weight" for name in names if linear}


def test_the_report(tmp_path):
    tensors = fq.weights("float32")
    tensors["model.layers.0.self_attn.k_proj.weight"][1].view(np.float32)[0, 0] = 1e6  # all else of its group is lost
    source = files.write(tmp_path / "a.safetensors", tensors)
    report = nc.quantize_file(source, tmp_path / "b.safetensors", "int4", granularity="channel")
    nc.dequantize_file(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    found = files.read(tmp_path / "c.safetensors")
    for tensor in report.tensors:
        x, y = (fq.array(given[tensor.name]).astype(np.float64) for given in (tensors, found))
        if not tensor.targets:
            assert tensor.sums is None
            continue
        assert (tensor.source_format, tensor.target_format, tensor.size) == ("float32", "int4 channel", x.size)
        ratio = 10 * math.log10(np.square(x).sum() / np.square(x - y).sum())
        assert tensor.sqnr == pytest.approx(ratio, abs=1e-6)
        assert tensor.sums.zeroed == ((x != 0) & (y == 0)).sum()
        assert tensor.targets == tuple(fq.expected(tensor.name, tensors[tensor.name], Case("int4", "channel")))
    assert report.worst[0] is min((t for t in report.tensors if t.sums), key=lambda t: t.sqnr)
    record = json.loads(report.to_json())
    assert record["format"] == "int4 channel"
    assert record["tensors"][1]["targets"][0].endswith("weight_packed")


@pytest.mark.parametrize("to", ["float32", "float16"])
def test_dequantize_to(to, tmp_path):
    """The dtype of a configuration goes with the weights; what was never quantized stays."""
    model = fq.make_model(tmp_path / "model")
    nc.quantize_file(model, tmp_path / "new", "int8")
    nc.dequantize_file(tmp_path / "new", tmp_path / "back", to)
    found, tensors = fq.read_shards(tmp_path / "back"), fq.read_shards(model)
    for name in fq.LINEAR:
        given = tensors[f"{name}.weight"]
        files.assert_same(
            {"": found[f"{name}.weight"]}, {"": fq.restored(given, Case("int8", "channel", packed=False), to)}
        )
    assert found["lm_head.weight"][0] == "bfloat16"
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == to


def test_equals_the_functions_on_arrays(tmp_path):
    """What nc.dequantize and nc.unpack make of the same tensors."""
    source = files.write(tmp_path / "a.safetensors", fq.weights())
    nc.quantize_file(source, tmp_path / "b.safetensors", "int4", group_size=32)
    nc.dequantize_file(tmp_path / "b.safetensors", tmp_path / "c.safetensors", "float32")
    tensors, found = nc.load_file(tmp_path / "b.safetensors"), nc.load_file(tmp_path / "c.safetensors")
    for name in fq.LINEAR:
        shape = tuple(tensors[f"{name}.weight_shape"].tolist())
        codes = nc.unpack(tensors[f"{name}.weight_packed"], "int4", shape=shape, layout="compressed_tensors")
        x = nc.dequantize(codes, tensors[f"{name}.weight_scale"], granularity="group", axis=1, group_size=32)
        assert np.array_equal(found[f"{name}.weight"], x)


def test_shards_that_part_a_weight(tmp_path):
    """transformers cuts where a shard is full, be it between codes and scales."""
    model = fq.make_model(tmp_path / "model")
    nc.quantize_file(model, tmp_path / "whole", "int4", group_size=32, symmetric=False)
    nc.dequantize_file(tmp_path / "whole", tmp_path / "wanted")
    shards = sorted((tmp_path / "whole").glob("*.safetensors"))
    tensors = fq.read_shards(tmp_path / "whole")
    where = {name: shards[i % 2].name for i, name in enumerate(tensors)}  # no two neighbours together
    for shard in shards:
        files.write(shard, {name: tensors[name] for name in tensors if where[name] == shard.name})
    index = json.loads((tmp_path / "whole" / fq.INDEX).read_text())
    (tmp_path / "whole" / fq.INDEX).write_text(json.dumps(index | {"weight_map": where}))
    report = nc.dequantize_file(tmp_path / "whole", tmp_path / "back")
    found, wanted = fq.read_shards(tmp_path / "back"), fq.read_shards(tmp_path / "wanted")
    assert found.keys() == wanted.keys()
    files.assert_same({name: found[name] for name in wanted}, wanted)
    index = json.loads((tmp_path / "back" / fq.INDEX).read_text())
    assert index["weight_map"].keys() == wanted.keys()
    assert all(name in files.read(tmp_path / "back" / shard) for name, shard in index["weight_map"].items())
    assert report.bytes_before - 33 * 4 - 8 * 64 * 4 == sum(codes.nbytes for _, codes in tensors.values())
