"""torch tensors: in and out without a copy, bfloat16 and every FP8; skipped where torch is not installed."""

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle

torch = pytest.importorskip("torch")

SHARED = [name for name in oracle.TARGETS if hasattr(torch, name)]


def tensor_of(name, codes):
    carrier = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}[codes.itemsize]
    return torch.from_numpy(codes.view(carrier).copy()).view(getattr(torch, name))


def codes_of(tensor):
    carrier = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.view(carrier).numpy().view(f"u{tensor.element_size()}")


def test_torch_has_what_it_should():
    expected = {"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}
    assert expected <= set(SHARED)


@pytest.mark.parametrize("dst", SHARED)
@pytest.mark.parametrize("src", SHARED)
def test_tensor_in_tensor_out(src, dst):
    codes = cases.codes_for(src, dst)[:20000]
    for named in (getattr(torch, dst), dst):
        got = nc.astype(tensor_of(src, codes), named)
        assert got.dtype is getattr(torch, dst)
        assert np.array_equal(codes_of(got), oracle.cast(src, codes, dst))


@pytest.mark.parametrize("dst", SHARED)
def test_out_is_written_in_place(dst):
    x = torch.linspace(-4, 4, 99)
    out = torch.zeros(99, dtype=getattr(torch, dst))
    pointer = out.data_ptr()
    assert nc.astype(x, dst, out=out) is out
    assert out.data_ptr() == pointer
    assert np.array_equal(codes_of(out), oracle.cast("float32", x.numpy().view(np.uint32), dst))


def test_input_memory_is_used_as_it_is():
    """In-place narrowing through two tensors over one memory is only possible without a copy."""
    memory = torch.linspace(0, 1, 4096)
    expected = oracle.cast("float32", memory.numpy().view(np.uint32).copy(), "float8_e4m3fn")
    out = memory.view(torch.uint8)[:4096]
    nc.astype(memory, torch.float8_e4m3fn, out=out)
    assert np.array_equal(out.numpy(), expected)


def test_strides_and_shapes():
    x = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)[:, :, ::2]
    got = nc.astype(x, torch.float16)
    assert got.shape == x.shape
    assert torch.equal(got.float(), x)
    assert nc.astype(torch.tensor(2.5), torch.bfloat16).shape == ()
    assert nc.astype(torch.empty(0, 3), torch.bfloat16).shape == (0, 3)


def test_integers_and_bools():
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool):
        got = nc.astype(torch.tensor([0, 1, 1], dtype=dtype), torch.float8_e5m2)
        assert codes_of(got).tolist() == [0, 0x3C, 0x3C]


def test_mixed_kinds():
    x = np.array([1.5, -2.0], np.float32)
    out = torch.zeros(2, dtype=torch.bfloat16)
    assert nc.astype(x, "bfloat16", out=out) is out
    assert out.tolist() == [1.5, -2.0]
    array = np.zeros(2, np.uint8)
    assert nc.astype(torch.tensor([1.5, -2.0]), "float8_e5m2", out=array) is array
    assert array.tolist() == [0x3E, 0xC0]
    assert type(nc.astype(x, torch.float16)) is np.ndarray
    codes = torch.tensor([0x3E, 0xC0], dtype=torch.uint8)
    got = nc.astype(codes, torch.float32, src_dtype=torch.float8_e5m2)
    assert got.tolist() == [1.5, -2.0]


def test_formats_torch_lacks_come_as_codes():
    got = nc.astype(torch.tensor([1.5, -2.0]), "float6_e3m2fn")
    assert isinstance(got, torch.Tensor)
    assert (
        codes_of(got).tolist()
        == oracle.cast("float32", np.array([1.5, -2], np.float32).view(np.uint32), "float6_e3m2fn").tolist()
    )
    assert nc.astype(torch.tensor([1 + 2.0**-12]), "tfloat32").dtype is torch.float32


def test_copy_false():
    x = torch.ones(4, dtype=torch.bfloat16)
    assert nc.astype(x, torch.bfloat16, copy=False) is x
    assert nc.astype(x, torch.bfloat16).data_ptr() != x.data_ptr()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: torch.ones(3, requires_grad=True), ValueError),
        (lambda: torch.ones(3).to_sparse(), ValueError),
        (lambda: torch.ones(3, dtype=torch.complex64), TypeError),
        (lambda: torch.empty(3, device="meta"), ValueError),
        (lambda: torch.complex(torch.ones(3), torch.ones(3)).conj().imag, ValueError),
    ],
    ids=["gradient", "sparse", "complex", "meta", "lazy negation"],
)
def test_tensors_that_are_refused(make, error):
    with pytest.raises(error, match=r"^x "):
        nc.astype(make(), "float16")


def test_targets_that_are_refused():
    with pytest.raises(TypeError, match=r"^dtype is .*integer"):
        nc.astype(torch.ones(3), torch.int8)
    with pytest.raises(TypeError, match=r"^dtype is "):
        nc.astype(torch.ones(3), torch.complex64)
    with pytest.raises(TypeError, match=r"^out has dtype"):
        nc.astype(torch.ones(3), torch.float16, out=torch.zeros(3))


def test_as_buffer():
    x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    view = nc.as_buffer(x)
    assert (view.format, view.tolist()) == ("H", [0x3FC0, 0xC000])
    view[0] = 0x4000
    assert x[0] == 2


def test_tensors_have_native_byte_order():
    with pytest.raises(TypeError, match=r"^dtype is '[<>]f4'; tensors are in native byte order only"):
        nc.astype(torch.ones(3), np.dtype(np.float32).newbyteorder("S").str)
