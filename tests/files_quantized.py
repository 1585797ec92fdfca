"""Models for the tests of quantized files, and what compressed-tensors files of them must hold.

Codes, scales and zero points are those of quant_model; how they lie in words and under which names is written down
here a second time, from compressed-tensors 0.20 (compressors/pack_quantized, compressors/naive_quantized).
"""

import json
import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np

import files
import quant_model as model

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
LINEAR = {
    "model.layers.0.self_attn.q_proj": (64, 64),
    "model.layers.0.self_attn.k_proj": (32, 64),
    "model.layers.0.mlp.up_proj": (160, 64),
    "model.layers.1.mlp.down_proj": (50, 192),
}
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Case:
    """A way to quantize: what is asked for, and what follows from it."""

    codes: str = "int4"
    granularity: str = "group"
    symmetric: bool = True
    group_size: int = 32
    packed: bool = True

    @property
    def options(self):
        options = {"granularity": self.granularity, "symmetric": self.symmetric}
        options |= {"group_size": self.group_size} if self.granularity == "group" else {}
        options |= {"block_shape": (32, 64)} if self.granularity == "block" else {}
        return options | ({"format": "pack-quantized"} if self.packed and self.codes == "int8" else {})

    @property
    def target(self):
        return model.Target(format=self.codes) if self.codes[0] == "f" else model.Target(int(self.codes[3:]))

    def block(self, shape):
        shapes = {"tensor": shape, "channel": (1, shape[1]), "group": (1, self.group_size), "block": (32, 64)}
        return shapes[self.granularity]


def array(given):
    """An array with the dtype that a tensor's format names."""
    format, codes = given
    return codes.view(files.numpy_dtype(format))


def stored(values):
    return files.tensor(values.dtype.name, values)


def packed(codes, bits):
    """Rows of signed codes as rows of words of 32 bits, dense and low bits first, with 2^(bits - 1) added."""
    shifted = (codes.astype(np.int32) + (1 << (bits - 1))).astype(np.uint8)
    size = 4 * math.ceil(codes.shape[1] * bits / 32)
    rows = [files.pack(row, bits).ljust(size, b"\0") for row in shifted]
    return np.frombuffer(b"".join(rows), "<u4").reshape(len(rows), -1)


def expected(name, given, case):
    """What takes a weight's place."""
    x = array(given)
    codes, scale, zero = model.quantize_dynamic(
        x, case.target, "compressed_tensors", case.block(x.shape), case.symmetric
    )
    scale = np.asarray(scale, x.dtype)
    zero = zero.astype(np.int8)
    if case.granularity == "tensor":
        scale, zero = scale.reshape(1), zero.reshape(1)
    bits = case.target.bits
    if case.target.format:
        found = {"weight": stored(codes), "weight_scale": stored(scale)}
    elif not case.packed:
        found = {"weight": stored(codes.astype(np.int8)), "weight_scale": stored(scale)}
    else:
        found = {
            "weight_packed": ("int32", packed(codes, bits)),
            "weight_scale": stored(scale),
            "weight_shape": stored(np.array(x.shape, np.int64)),
        }
    if not case.symmetric:
        is_packed = case.packed and case.granularity in ("channel", "group")
        words = ("int32", np.ascontiguousarray(packed(zero.T, bits).T)) if is_packed else stored(zero)
        found["weight_zero_point"] = words
    return {f"{name.removesuffix('.weight')}.{end}": tensor for end, tensor in found.items()}


def restored(given, case, dtype=None):
    """What dequantizing makes of a weight that was quantized."""
    x = array(given)
    block = case.block(x.shape)
    codes, scale, zero = model.quantize_dynamic(x, case.target, "compressed_tensors", block, case.symmetric)
    scale, to = np.asarray(scale, x.dtype), DTYPES[dtype] if dtype else x.dtype
    zero = None if case.target.format or case.symmetric else zero
    return stored(model.dequantize(codes, scale, zero, "compressed_tensors", block, to))


def weights(dtype="bfloat16", seed=0):
    """A tiny model's tensors, by name."""
    random = np.random.default_rng(seed)

    def make(*shape, scale=0.05):
        return stored(random.normal(0, scale, shape).astype(np.float32).astype(DTYPES[dtype]))

    found = {f"{EMBEDDING}.weight": make(96, 64)}
    for name, shape in LINEAR.items():
        found[f"{name}.weight"] = make(*shape)
    found["model.layers.0.self_attn.q_proj.bias"] = make(64)
    found["model.norm.weight"] = make(64)
    found["model.rotary.inv_freq"] = files.tensor("float32", np.linspace(1, 0, 8, dtype=np.float32))
    found[f"{HEAD}.weight"] = make(96, 64)
    return found


def make_model(folder, dtype="bfloat16", shards=2):
    """A directory as transformers writes it."""
    folder.mkdir(parents=True)
    tensors = weights(dtype)
    names, where = list(tensors), {}
    for k in range(shards):
        shard = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        mine = names[k * len(names) // shards : (k + 1) * len(names) // shards]
        files.write(folder / shard, {name: tensors[name] for name in mine}, {"format": "pt"})
        where |= dict.fromkeys(mine, shard)
    total = sum(codes.nbytes for _, codes in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": dtype, "hidden_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": true}')
    files.write(folder / "1_Pooling" / "extra.npy", {"extra": files.floats(7, (33,))})
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text('{"in_features": 64}')
    files.write(folder / "2_Dense" / "model.safetensors", {"linear.weight": files.floats(8, (8, 64))})
    return folder


def read_shards(folder):
    """All tensors of a directory's shards."""
    found = {}
    for shard in sorted(folder.glob("*.safetensors")):
        found |= files.read(shard)
    return found
