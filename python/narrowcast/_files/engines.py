"""A directory's files as tasks of an engine that runs already: Dask or Ray.

One task is one file; the engine repeats a task whose worker is lost. Workers see the same paths as this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from narrowcast._files.job import Job
from narrowcast._files.model import Item

_RETRIES: Final = 5


def run_task(job: Job, item: Item) -> Exception | None:
    """Do one file on a worker; return an error that would come again, so that no engine tries it again."""
    try:
        job.do(item, lambda _: None)
    except (OverflowError, TypeError, ValueError) as error:
        return error
    return None


def run_on_dask(scheduler: str, job: Job, items: Sequence[Item], advance: Callable[[int], None]) -> None:
    """Do files on the workers of a Dask scheduler ("tcp://host:8786"), or of a cluster made here ("local")."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ValueError("--dask needs dask.distributed: pip install 'narrowcast[dask]'") from None
    with Client(None if scheduler == "local" else scheduler) as client:
        futures = [client.submit(run_task, job, item, pure=False, retries=_RETRIES) for item in items]
        items_of = {future.key: item for future, item in zip(futures, items, strict=True)}
        for future in as_completed(futures):
            _settle("Dask", future.result, items_of[future.key], advance)


def run_on_ray(address: str, job: Job, items: Sequence[Item], advance: Callable[[int], None]) -> None:
    """Do files on a Ray cluster ("auto", "host:6379", "ray://host:10001"), or on one made here ("local")."""
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs Ray: pip install 'narrowcast[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        task: Any = ray.remote(max_retries=_RETRIES)(run_task)
        waiting = {task.remote(job, item): item for item in items}
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                _settle("Ray", partial(ray.get, reference), waiting.pop(reference), advance)
    finally:
        if ours:
            ray.shutdown()


def _settle(engine: str, result: Callable[[], Exception | None], item: Item, advance: Callable[[int], None]) -> None:
    """Take what has become of a file. What the engine itself has to say about it is not an error of the cast."""
    try:
        error = result()
    except Exception as failure:
        cause = getattr(failure, "cause", None) or failure  # Ray wraps what a task has raised
        if isinstance(cause, OSError | MemoryError):
            raise cause from None
        why = f"{type(failure).__name__}: {failure}".partition("\n")[0]
        raise RuntimeError(
            f"{item.path}: {engine} could not do this file, and the logs of its workers say why ({why})"
        ) from failure
    if error is not None:
        raise error
    advance(item.size)
