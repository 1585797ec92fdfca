"""LossScaler: step for step with torch's own scaler and update operator, its state in both directions, its refusals."""

import math
import pickle

import numpy as np
import pytest

import narrowcast as nc

LARGEST = float(np.finfo(np.float32).max)


def test_the_defaults_are_torchs():
    scaler = nc.LossScaler()
    assert scaler.state_dict() == {
        "scale": 65536.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 0,
    }
    torch = pytest.importorskip("torch")
    theirs = torch.amp.GradScaler("cpu").state_dict()
    assert {**theirs, "scale": 65536.0} == scaler.state_dict()


def test_growth_and_backoff():
    scaler = nc.LossScaler(8.0, growth_interval=3)
    scales = []
    for found in (False, False, False, False, True, False, False, False, True, True):
        scaler.update(found)
        scales.append(scaler.get_scale())
    assert scales == [8, 8, 16, 16, 8, 8, 8, 16, 8, 4]


def test_the_scale_stays_where_float32_holds_it_and_its_reciprocal():
    scaler = nc.LossScaler(3e38, growth_interval=1)
    scaler.update(False)
    assert scaler.get_scale() == float(np.float32(3e38))
    assert scaler.state_dict()["_growth_tracker"] == 0
    gradients = np.float32([3e38])
    assert scaler.unscale(gradients) is False
    assert gradients[0] == np.float32(3e38) * np.float32(1 / float(np.float32(3e38)))
    scaler = nc.LossScaler(2.0**-125)
    for _ in range(5):
        scaler.update(True)
    assert scaler.get_scale() == 2.0**-126
    gradients = np.float32([2.0**-126])
    assert scaler.unscale(gradients) is False
    assert gradients[0] == 1


def test_torchs_own_update():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(5)
    for growth, backoff, interval in ((2.0, 0.5, 3), (1.1, 0.7, 1), (1.0001, 0.999, 2), (3.7, 0.1, 5)):
        scaler = nc.LossScaler(1000.1, growth, backoff, interval)
        scale, tracker = torch.tensor(1000.1), torch.tensor(0, dtype=torch.int32)
        for found in random.random(300) < 0.1:
            torch._amp_update_scale_(scale, tracker, torch.tensor(float(found)), growth, backoff, interval)
            scaler.update(found)
            assert (scaler.get_scale(), scaler.state_dict()["_growth_tracker"]) == (scale.item(), tracker.item())
            assert 1e-30 < scaler.get_scale() < 1e38  # torch's own scale goes on to 0


def test_a_training_step_beside_torchs_scaler():
    """The same gradients, overflows included, through both: equal gradients, equal decisions, equal scales."""
    torch = pytest.importorskip("torch")
    theirs = torch.amp.GradScaler("cpu", init_scale=1000.0, growth_interval=2)
    ours = nc.LossScaler(1000.0, growth_interval=2)
    parameters = [torch.nn.Parameter(torch.zeros(300)), torch.nn.Parameter(torch.zeros(7))]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    theirs.scale(torch.tensor(1.0))  # makes its state
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        gradients = [torch.randn(p.shape, generator=generator) * 1000 for p in parameters]
        if step % 5 == 3:
            gradients[1][2] = math.inf
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        theirs.unscale_(optimizer)
        before = [p.detach().clone() for p in parameters]
        theirs.step(optimizer)
        theirs.update()
        found = ours.unscale(gradients)
        assert all(torch.equal(a.grad, b) for a, b in zip(parameters, gradients, strict=True))
        assert found is all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
        ours.update(found)
        assert ours.get_scale() == theirs.get_scale()
    assert ours.state_dict() == theirs.state_dict()


def test_what_scale_multiplies():
    scaler = nc.LossScaler(1024.0)
    assert scaler.scale(0.5) == 512.0
    assert type(scaler.scale(3)) is float
    loss = scaler.scale(np.float16(100))
    assert (loss.dtype, loss) == (np.float32, 102400)
    x = np.float64([1, 2])
    assert scaler.scale(x).dtype == np.float64
    assert scaler.scale(x).tolist() == [1024, 2048]
    assert x.tolist() == [1, 2]
    assert scaler.scale([1.0, (2.0, 3.0)]) == [1024.0, (2048.0, 3072.0)]
    with pytest.raises(TypeError):
        scaler.scale("loss")


def test_a_tensor_keeps_its_graph():
    torch = pytest.importorskip("torch")
    weight = torch.ones(3, dtype=torch.float16, requires_grad=True)
    scaler = nc.LossScaler(1024.0)
    loss = scaler.scale(weight.sum())
    reference = torch.amp.GradScaler("cpu", init_scale=1024.0).scale(weight.sum())
    assert (loss.dtype, loss.item()) == (reference.dtype, reference.item())
    loss.backward()
    assert scaler.unscale(weight.grad) is False
    assert weight.grad.tolist() == [1, 1, 1]


def test_unscale_has_an_out_and_threads():
    scaler = nc.LossScaler(4.0)
    gradients, out = [np.float16([4, 8])], [np.zeros(2, np.float16)]
    assert scaler.unscale(gradients, out=out, threads=2) is False
    assert (gradients[0].tolist(), out[0].tolist()) == ([4, 8], [1, 2])


@pytest.mark.parametrize("found", [True, 1, 1.0, 2.0, math.nan, np.True_, np.float32(1), np.array(1)])
def test_what_counts_as_found(found):
    scaler = nc.LossScaler(4.0)
    scaler.update(found)
    assert scaler.get_scale() == 2


@pytest.mark.parametrize("found", [False, 0, 0.0, -0.0, np.False_, np.float32(0), np.array(0)])
def test_what_counts_as_not_found(found):
    scaler = nc.LossScaler(4.0, growth_interval=1)
    scaler.update(found)
    assert scaler.get_scale() == 8


def test_state_goes_to_torch_and_back():
    torch = pytest.importorskip("torch")
    ours = nc.LossScaler(300.0, 3.0, 0.25, 7)
    for _ in range(5):
        ours.update(False)
    theirs = torch.amp.GradScaler("cpu")
    theirs.load_state_dict(ours.state_dict())
    assert theirs.get_scale() == 300.0
    again = nc.LossScaler()
    again.load_state_dict(theirs.state_dict())
    assert again.state_dict() == ours.state_dict()


def test_repr_and_pickle():
    scaler = nc.LossScaler(300, growth_interval=7)
    scaler.update(False)
    text = "LossScaler(scale=300.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=7, growth_tracker=1)"
    assert repr(scaler) == text
    assert repr(pickle.loads(pickle.dumps(scaler))) == text


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"init_scale": 0}, ValueError, r"^init_scale is 0; allowed are 2\*\*-126 to the largest float32"),
        ({"init_scale": -1.0}, ValueError, "^init_scale is -1"),
        ({"init_scale": math.inf}, ValueError, "^init_scale is inf"),
        ({"init_scale": math.nan}, ValueError, "^init_scale is nan"),
        ({"init_scale": 1e39}, ValueError, "^init_scale is 1e"),
        ({"init_scale": "65536"}, TypeError, "^init_scale is '65536'; allowed are numbers"),
        ({"growth_factor": 1.0}, ValueError, "^growth_factor is 1.0; allowed are finite numbers above 1"),
        ({"growth_factor": math.inf}, ValueError, "^growth_factor is inf"),
        ({"growth_factor": None}, TypeError, "^growth_factor is None"),
        ({"backoff_factor": 1.0}, ValueError, "^backoff_factor is 1.0; allowed are numbers between 0 and 1"),
        ({"backoff_factor": 0.0}, ValueError, "^backoff_factor is 0.0"),
        ({"backoff_factor": math.nan}, ValueError, "^backoff_factor is nan"),
        ({"growth_interval": 0}, ValueError, "^growth_interval is 0; allowed are 1 or more"),
        ({"growth_interval": 2.0}, TypeError, "^growth_interval is 2.0; allowed are integers"),
    ],
)
def test_refusals(options, error, match):
    with pytest.raises(error, match=match):
        nc.LossScaler(**options)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"scale": 0.0}, ValueError, "^scale is 0.0"),
        ({"scale": "1"}, TypeError, "^scale is '1'"),
        ({"_growth_tracker": -1}, ValueError, "^_growth_tracker is -1"),
        ({"extra": 1}, ValueError, "^state has the entries .*extra; allowed are exactly scale, growth_factor"),
    ],
)
def test_states_that_are_refused(change, error, match):
    scaler = nc.LossScaler(16.0)
    before = scaler.state_dict()
    with pytest.raises(error, match=match):
        scaler.load_state_dict({**before, "growth_factor": 9.0, **change})
    assert scaler.state_dict() == before
    for state, expected in (({}, ValueError), ([("scale", 1)], TypeError)):
        with pytest.raises(expected, match=r"^state "):
            scaler.load_state_dict(state)
    for found in ("yes", None, [True], np.ones(2)):
        with pytest.raises(TypeError, match=r"^found_inf is "):
            scaler.update(found)
    assert scaler.state_dict() == before


def test_the_scale_is_a_float32():
    assert nc.LossScaler(0.1).get_scale() == float(np.float32(0.1))
    assert nc.LossScaler(LARGEST).get_scale() == LARGEST
