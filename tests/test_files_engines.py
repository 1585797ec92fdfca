"""Casts of directories by the workers of Dask and Ray: the bytes of one process, also when a worker is killed in the
middle. And dask.array's own way, block by block.

pip install '.[cluster-test]'; what is not installed is skipped.
"""

import os
import signal
import threading
import time

import ml_dtypes
import numpy as np
import pytest

import files
import narrowcast as nc

# The engines warn of much that is theirs.
pytestmark = pytest.mark.filterwarnings("default")

SHARDS = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return files.make_model(tmp_path_factory.mktemp("engines") / "model", shards=SHARDS, rows=100)


@pytest.fixture(scope="module")
def whole(model):
    """What one process makes of it."""
    nc.cast_file(model, model.with_name("whole"), "float8_e4m3fn", rounding="stochastic", seed=1)
    return files.contents(model.with_name("whole"))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, death_timeout=60
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray_cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=100_000_000)
    yield ray
    ray.shutdown()


def cast(model, target, **engine):
    return nc.cast_file(model, target, "float8_e4m3fn", rounding="stochastic", seed=1, **engine)


def slow_tasks(directory):
    """Make every task of this process that begins from now on wait until the killer has done its work, or a while."""
    from narrowcast._files import engines

    do = engines.run_task

    def run_task(job, item):
        if item.kind == "tensors":
            (directory / f"{os.getpid()}-{time.monotonic_ns()}").touch()
            for _ in range(50):
                if (directory / "killed").exists():
                    break
                time.sleep(0.1)
        return do(job, item)

    return run_task


def kill_the_first(directory, killed):
    """Wait for the first task to begin and kill its process."""
    while not killed:
        for name in files.names(directory):
            process = int(name.split("-")[0])
            os.kill(process, signal.SIGKILL)
            killed.append(process)
            (directory / "killed").touch()
            return
        time.sleep(0.02)


def with_a_murder(model, out, tmp_path, monkeypatch, **engine):
    """Cast while the worker that begins the first shard is killed in it."""
    begun, killed = tmp_path / "begun", []
    begun.mkdir()
    monkeypatch.setattr("narrowcast._files.engines.run_task", slow_tasks(begun))
    thread = threading.Thread(target=kill_the_first, args=(begun, killed), daemon=True)
    thread.start()
    report = cast(model, out / "new", **engine)
    thread.join(10)
    assert len(killed) == 1
    assert killed[0] != os.getpid()
    assert report.complete


def check(report, out, whole):
    assert report.complete
    assert report.files == report.files_done == SHARDS + 4
    assert len(report.tensors) == 4 * SHARDS + 1
    assert files.contents(out / "new") == whole
    assert files.names(out) == ["new"]


def test_dask(dask_cluster, model, whole, out):
    seen = []
    report = cast(model, out / "new", dask=dask_cluster.scheduler_address, progress=lambda *now: seen.append(now))
    check(report, out, whole)
    assert seen[-1][0] == seen[-1][1]


def test_dask_when_a_worker_is_killed(dask_cluster, model, whole, out, tmp_path, monkeypatch):
    with_a_murder(model, out, tmp_path, monkeypatch, dask=dask_cluster.scheduler_address)
    assert files.contents(out / "new") == whole
    assert files.names(out) == ["new"]


def test_dask_goes_on_with_what_is_done(dask_cluster, model, whole, out):
    cast(model, out / "new", rank=1, world=3)
    assert files.names(out) != ["new"]
    check(cast(model, out / "new", dask=dask_cluster.scheduler_address), out, whole)


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_errors_of_workers(engine, model, out, request):
    """As in one process: the same exception, with the same sentence, and no retries."""
    cluster = request.getfixturevalue(f"{engine}_cluster")
    address = {"dask": cluster.scheduler_address} if engine == "dask" else {"ray": "auto"}
    with pytest.raises(OverflowError) as one:
        nc.cast_file(model, out / "one", "float8_e4m3fn", overflow="raise", only="layers.3.*")
    with pytest.raises(OverflowError) as many:
        nc.cast_file(model, out / "many", "float8_e4m3fn", overflow="raise", only="layers.3.*", **address)
    assert str(many.value) == str(one.value)
    assert str(one.value).startswith("layers.3.norm[")


def test_ray(ray_cluster, model, whole, out):
    seen = []
    check(cast(model, out / "new", ray="auto", progress=lambda *now: seen.append(now)), out, whole)
    assert seen[-1][0] == seen[-1][1]


def test_ray_when_a_worker_is_killed(ray_cluster, model, whole, out, tmp_path, monkeypatch):
    with_a_murder(model, out, tmp_path, monkeypatch, ray="auto")
    assert files.contents(out / "new") == whole
    assert files.names(out) == ["new"]


def test_local_clusters(model, whole, out):
    """ "local" makes a cluster for the time of the cast; in a process of its own, as the command line is used."""
    for engine, module in (("dask", "distributed"), ("ray", "ray")):
        pytest.importorskip(module)
        words = ["--rounding", "stochastic", "--seed", "1", f"--{engine}", "local", "--quiet"]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        done = files.run("cast", model, out / engine, "--to", "float8_e4m3fn", *words, env=environment)
        assert done.returncode == 0, done.stderr
        assert files.contents(out / engine) == whole
    assert files.names(out) == ["dask", "ray"]


def test_a_scheduler_that_is_not_there(model, out):
    """One sentence, not a minute of waiting for nothing."""
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(OSError, match="127") as caught:
        cast(model, out / "new", dask="tcp://127.0.0.1:1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chunks", [(10, 7), (100, 3), (33, 50)])
def test_arrays_of_dask(chunks):
    """Block by block equals the whole."""
    arrays = pytest.importorskip("dask.array")
    x = np.random.default_rng(2).normal(0, 100, (100, 50)).astype(np.float32)
    y = arrays.from_array(x, chunks=chunks)
    found = y.map_blocks(nc.astype, "float8_e4m3fn", dtype=ml_dtypes.float8_e4m3fn)
    assert found.dtype == ml_dtypes.float8_e4m3fn
    got = found.compute(scheduler="threads")
    assert np.array_equal(got.view(np.uint8), nc.astype(x, "float8_e4m3fn").view(np.uint8))
