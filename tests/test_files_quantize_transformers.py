"""Quantized models are what their readers expect: transformers loads what quantize_file has made of a tiny Llama, and
runs it as it runs the dequantized one; compressed-tensors itself would have written the same bytes.

pip install '.[cluster-test]' compressed-tensors accelerate; skipped where these are not installed, no network needed.
"""

import json

import numpy as np
import pytest

import files
import files_quantized as fq
import narrowcast as nc

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
load_tensors = pytest.importorskip("safetensors.torch").load_file
quantization = pytest.importorskip("compressed_tensors.quantization")
compressors = pytest.importorskip("compressed_tensors.compressors")
qparams = pytest.importorskip("compressed_tensors.quantization.utils.helpers")

pytestmark = pytest.mark.filterwarnings("default")

CASES = {
    "int8": ("int8", {}),
    "int8 packed": ("int8", {"format": "pack-quantized"}),
    "int8 asymmetric": ("int8", {"symmetric": False}),
    "int4 g32": ("int4", {"group_size": 32}),
    "int4 channel": ("int4", {"granularity": "channel"}),
    "FP8 tensor": ("float8_e4m3fn", {"granularity": "tensor"}),
    "FP8 channel": ("float8_e4m3fn", {}),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return make(tmp_path_factory.mktemp("llama") / "model")


def make(folder, tied=False):
    torch.manual_seed(11)
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    llama = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    llama.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


def load(folder, **options):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options).eval()


def logits(model):
    with torch.no_grad():
        return model(torch.arange(40).reshape(2, 20) * 7 % 320).logits.float()


@pytest.mark.parametrize("case", CASES)
def test_logits(case, directory, tmp_path):
    """Those of the dequantized model; and these are near those of the model itself."""
    dtype, options = CASES[case]
    compare(directory, dtype, options, tmp_path)


def test_a_head_that_shares_the_embedding(tmp_path):
    compare(make(tmp_path / "model", tied=True), "int8", {}, tmp_path)


def compare(directory, dtype, options, tmp_path):
    nc.quantize_file(directory, tmp_path / "new", dtype, **options)
    nc.dequantize_file(tmp_path / "new", tmp_path / "back")
    quantized, dequantized = load(tmp_path / "new"), load(tmp_path / "back")
    assert quantized.config.quantization_config is not None
    for name, module in quantized.named_modules():
        wanted = isinstance(module, torch.nn.Linear) and name != "lm_head"
        assert hasattr(module, "quantization_scheme") == wanted, name
    found, wanted = logits(quantized), logits(dequantized)
    assert (found - wanted).abs().max() < 0.01
    assert wanted.abs().max() > 0.1
    assert torch.nn.functional.cosine_similarity(found, logits(load(directory)), dim=-1).min() > 0.97


def test_zero_points_in_words(directory, tmp_path):
    """transformers 5.23 makes no room for packed zero points, whoever has packed them, but dequantizes them."""
    nc.quantize_file(directory, tmp_path / "new", "int4", group_size=32, symmetric=False)
    nc.dequantize_file(tmp_path / "new", tmp_path / "back")
    config = transformers.CompressedTensorsConfig(dequantize=True)
    with pytest.warns(UserWarning, match="already has a `quantization_config`"):
        loaded = load(tmp_path / "new", quantization_config=config)
    assert (logits(loaded) - logits(load(tmp_path / "back"))).abs().max() < 0.01


def compress(directory, target, strategy, group_size=None, **weights):
    """Quantize a model by compressed-tensors alone."""
    model = load(directory)
    storage = "float-quantized" if weights["type"] == "float" else "int-quantized"
    storage = "pack-quantized" if weights["num_bits"] < 8 else storage
    arguments = quantization.QuantizationArgs(strategy=strategy, group_size=group_size, **weights)
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments, format=storage)
    config = quantization.QuantizationConfig(
        config_groups={"group_0": scheme}, ignore=["lm_head"], format=storage, quantization_status="frozen"
    )
    quantization.apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            x = module.weight.data
            boxes = {"tensor": (1, -1), "channel": (x.shape[0], 1, -1), "group": (x.shape[0], -1, group_size or 1)}
            low, high = (end(x.reshape(boxes[strategy]), dim=-1) for end in (torch.amin, torch.amax))
            module.weight_scale.data, module.weight_zero_point.data = qparams.calculate_qparams(low, high, arguments)
    compressor = compressors.ModelCompressor.from_pretrained_model(model, storage)
    compressor.compress_model(model)
    model.save_pretrained(target)
    compressor.update_config(target)


@pytest.mark.parametrize(
    ("dtype", "strategy", "group_size", "symmetric"),
    [
        ("int4", "group", 32, True),
        ("int4", "group", 32, False),
        ("int4", "channel", None, False),
        ("int3", "group", 16, True),
        ("int8", "channel", None, True),
        ("int8", "channel", None, False),
        ("float8_e4m3fn", "tensor", None, True),
        ("float8_e4m3fn", "channel", None, True),
    ],
)
def test_the_packages_own_files(dtype, strategy, group_size, symmetric, directory, tmp_path):
    """Tensor by tensor the same, in both directions."""
    kind, bits = ("float", 8) if dtype[0] == "f" else ("int", int(dtype[3:]))
    weights = {"num_bits": bits, "type": kind, "symmetric": symmetric}
    compress(directory, tmp_path / "theirs", strategy, group_size, **weights)
    nc.quantize_file(
        directory, tmp_path / "ours", dtype, granularity=strategy, group_size=group_size, symmetric=symmetric
    )
    theirs, ours = fq.read_shards(tmp_path / "theirs"), fq.read_shards(tmp_path / "ours")
    assert ours.keys() == theirs.keys()
    files.assert_same({name: ours[name] for name in theirs}, theirs)
    read = quantization.QuantizationConfig.model_validate
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "ours")]
    one, other = (read(config["quantization_config"]) for config in configs)
    assert one.config_groups == other.config_groups
    assert (one.format, one.quantization_status) == (other.format, other.quantization_status)

    for name in ("theirs", "ours"):
        nc.dequantize_file(tmp_path / name, tmp_path / f"{name}-back")
    back, again = fq.read_shards(tmp_path / "theirs-back"), fq.read_shards(tmp_path / "ours-back")
    files.assert_same({name: back[name] for name in again}, again)
    model = load(tmp_path / "theirs", quantization_config=transformers.CompressedTensorsConfig(dequantize=True))
    for name, tensor in model.state_dict().items():
        if name in back:
            assert np.array_equal(tensor.view(torch.uint16).numpy(), back[name][1]), name


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group", "block"])
@pytest.mark.parametrize(
    ("dtype", "symmetric"),
    [("int4", True), ("int4", False), ("int8", True), ("int8", False), ("float8_e4m3fn", True)],
)
def test_the_package_dequantizes_the_same(dtype, symmetric, granularity, tmp_path):
    """Also what no scheme of its users is: each combination that can be asked for."""
    case = fq.Case(dtype, granularity, symmetric, packed=False)
    source = files.write(tmp_path / "a.safetensors", fq.weights("float16"))
    nc.quantize_file(source, tmp_path / "b.safetensors", dtype, **case.options)
    nc.dequantize_file(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    metadata = files.read_safetensors(tmp_path / "b.safetensors")[1]
    group = json.loads(metadata["quantization_config"])["config_groups"]["group_0"]
    scheme = quantization.QuantizationScheme.model_validate(group)
    compressor = compressors.BaseCompressor.get_value_from_registry(group["format"])
    tensors, found = load_tensors(tmp_path / "b.safetensors"), load_tensors(tmp_path / "c.safetensors")
    for name in fq.LINEAR:
        parts = {
            key.removeprefix(f"{name}."): part for key, part in tensors.items() if key.startswith(f"{name}.weight")
        }
        wanted = compressor.decompress(parts, scheme)["weight"]
        assert torch.equal(found[f"{name}.weight"].view(torch.uint16), wanted.view(torch.uint16)), name
