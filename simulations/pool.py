"""Who computes a sweep: this process, processes of this machine, or a cluster behind joblib.

Results come in the order of the work whoever computes them, so files are the same. joblib's own backends are
`loky` and `threading`; `dask` needs the extra `sim`, `ray` an installed ray.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from ..protocol.errors import MissingDependency

T = TypeVar("T")
BACKENDS = ("processes", "loky", "dask", "ray")


@dataclass(frozen=True, slots=True)
class Pool:
    """`jobs` at once; `address` is a cluster's (a local one is started without it)."""

    jobs: int = 1
    backend: str = "processes"
    address: str = ""


def spread(act: Callable[..., T], work: Sequence[tuple[Any, ...]], pool: Pool) -> Iterator[T]:
    """`act(*each)` of all work, in order, as they end. Raises MissingDependency."""
    if pool.backend != "processes":
        yield from _by_joblib(act, work, pool)
    elif min(pool.jobs, len(work)) <= 1:
        yield from (act(*each) for each in work)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(pool.jobs, len(work)), mp_context=context) as processes:
            yield from processes.map(act, *zip(*work, strict=True))


def _by_joblib(act: Callable[..., T], work: Sequence[tuple[Any, ...]], pool: Pool) -> Iterator[T]:
    try:
        from joblib import Parallel, delayed, parallel_config
    except ImportError as error:
        raise MissingDependency("sweeps by joblib need it: pip install 'commonlore[simulate]'") from error
    with ExitStack() as stack:
        if pool.backend == "dask":
            stack.enter_context(_dask_client(pool))
        elif pool.backend == "ray":
            _register_ray(pool)
        stack.enter_context(parallel_config(backend=pool.backend, n_jobs=pool.jobs))
        yield from Parallel(return_as="list")(delayed(act)(*each) for each in work)


def _dask_client(pool: Pool) -> Any:
    try:
        from dask import distributed
    except ImportError as error:
        raise MissingDependency("a Dask cluster needs dask: pip install 'commonlore[sim]'") from error
    client: Any = distributed.Client
    if pool.address:
        return client(pool.address)
    return client(n_workers=pool.jobs, threads_per_worker=1, dashboard_address=None)


def _register_ray(pool: Pool) -> None:
    try:
        ray, joblib = import_module("ray"), import_module("ray.util.joblib")
    except ImportError as error:
        raise MissingDependency("a Ray cluster needs ray: pip install ray") from error
    ray.init(address=pool.address or None, ignore_reinit_error=True)
    joblib.register_ray()
