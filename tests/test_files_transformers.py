"""A model that transformers has written, cast, and loaded again by transformers: its logits are those of torch's own
cast. A tiny Llama of random weights, in shards; no network is needed.

pip install '.[cluster-test]'; skipped where torch or transformers are not installed.
"""

import copy
import json

import pytest

import files
import narrowcast as nc

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(11)
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def directory(llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama") / "model"
    llama.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert (folder / "model.safetensors.index.json").exists()
    return folder


@pytest.fixture(scope="module")
def tokens():
    return torch.arange(40).reshape(2, 20) * 7 % 320


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_logits(format, llama, directory, tokens, tmp_path):
    """Against the model in memory, and against transformers that casts while it loads."""
    nc.cast_file(directory, tmp_path / "cast", format, threads=2)
    dtype = getattr(torch, format)
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "cast", dtype="auto").eval()
    assert loaded.dtype == dtype
    own = copy.deepcopy(llama).to(dtype)
    weights = own.state_dict()
    assert weights.keys() == loaded.state_dict().keys()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight.view(torch.uint8), weights[name].view(torch.uint8)), name
    with torch.no_grad():
        by_transformers = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=dtype).eval()
        assert torch.equal(loaded(tokens).logits, by_transformers(tokens).logits)
        # .to() also casts what is in no file: the angles of the positions. So that is done here too.
        assert torch.equal(loaded.to(dtype)(tokens).logits, own(tokens).logits)


def test_the_directory(directory, tmp_path):
    """What transformers would have written of the same model."""
    nc.cast_file(directory, tmp_path / "cast", "bfloat16")
    config = json.loads((tmp_path / "cast" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    index = json.loads((tmp_path / "cast" / "model.safetensors.index.json").read_text())
    before = json.loads((directory / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] * 2 == before["metadata"]["total_size"]
    assert index["weight_map"] == before["weight_map"]
    assert set(files.names(tmp_path / "cast")) == {*files.names(directory), "narrowcast.json"}


def test_float8_beside_others_loads(llama, directory, tmp_path):
    """transformers makes no model in FP8: the configuration keeps float32, and the weights in FP8 are widened."""
    nc.cast_file(directory, tmp_path / "cast", "float8_e4m3fn", only="*mlp*")
    assert (tmp_path / "cast" / "config.json").read_bytes() == (directory / "config.json").read_bytes()
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "cast", dtype="auto").eval()
    assert loaded.dtype == torch.float32
    for name, weight in llama.state_dict().items():
        wanted = weight.to(torch.float8_e4m3fn).to(torch.float32) if "mlp" in name else weight
        assert torch.equal(loaded.state_dict()[name], wanted), name


def test_float8_loads_and_is_close(llama, directory, tokens, tmp_path):
    """Down to FP8 and up again: a model that transformers runs, and that is not far off."""
    nc.cast_file(directory, tmp_path / "narrow", "float8_e4m3fn", only="*_proj.weight")
    nc.cast_file(tmp_path / "narrow", tmp_path / "wide", "float32")
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "wide", dtype="auto").eval()
    weight = llama.model.layers[0].mlp.up_proj.weight.detach()
    found = loaded.model.layers[0].mlp.up_proj.weight.detach()
    assert torch.equal(found, weight.to(torch.float8_e4m3fn).to(torch.float32))
    with torch.no_grad():
        assert torch.nn.functional.cosine_similarity(loaded(tokens).logits, llama(tokens).logits, dim=-1).min() > 0.98
