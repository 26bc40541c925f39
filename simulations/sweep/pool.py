"""Who computes a sweep: this process, processes of this machine, or a cluster behind joblib.

Results come as they end, numbered; files are put together in the order of the work, so they are the same
whoever computed them. joblib's own backend is `loky`; `dask` needs the extra `sim`, `ray` an installed ray,
which is asked without joblib: its backend there gives results only when all of them are there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from ...protocol.errors import MissingDependency
from .attempts import Broken, attempt, reason_of
from .processes import compute

T = TypeVar("T")
Arguments = tuple[Any, ...]
BACKENDS = ("processes", "loky", "dask", "ray")


@dataclass(frozen=True, slots=True)
class Pool:
    """`jobs` at once (None: one on this machine, all of a cluster); `address` is a cluster's (a local one is
    started without it)."""

    jobs: int | None = None
    backend: str = "processes"
    address: str = ""


def spread(act: Callable[..., T], work: Sequence[Arguments], pool: Pool) -> Iterator[tuple[int, T | Broken]]:
    """`act(*each)` of all work: (its place in the work, result), as they end. Raises MissingDependency."""
    jobs = pool.jobs or 1
    if not work:
        return
    if pool.backend == "ray":
        yield from _by_ray(act, work, pool)
    elif pool.backend != "processes":
        yield from _by_joblib(act, work, pool)
    elif min(jobs, len(work)) == 1:
        yield from ((place, attempt(act, each)) for place, each in enumerate(work))
    else:
        yield from compute(act, work, jobs)


def _by_joblib(
    act: Callable[..., T], work: Sequence[Arguments], pool: Pool
) -> Iterator[tuple[int, T | Broken]]:
    try:
        from joblib import Parallel, delayed, parallel_config
    except ImportError as error:
        raise MissingDependency("sweeps by joblib need it: pip install 'commonlore[simulate]'") from error
    tasks = [delayed(_numbered)(place, act, each) for place, each in enumerate(work)]
    with ExitStack() as stack:
        jobs = pool.jobs or 1
        if pool.backend == "dask":
            stack.enter_context(_dask_client(pool))
            jobs = -1
        stack.enter_context(parallel_config(backend=pool.backend, n_jobs=jobs))
        yield from Parallel(return_as="generator_unordered")(tasks)


def _numbered(place: int, act: Callable[..., T], arguments: Arguments) -> tuple[int, T | Broken]:
    return place, attempt(act, arguments)


def _dask_client(pool: Pool) -> Any:
    try:
        from dask import distributed
    except ImportError as error:
        raise MissingDependency("a Dask cluster needs dask: pip install 'commonlore[sim]'") from error
    client: Any = distributed.Client
    if pool.address:
        return client(pool.address)
    return client(n_workers=pool.jobs, threads_per_worker=1, dashboard_address=None)


def _by_ray(act: Callable[..., T], work: Sequence[Arguments], pool: Pool) -> Iterator[tuple[int, T | Broken]]:
    with _ray(pool) as (ray, jobs):
        remote, places = ray.remote(num_cpus=1)(attempt), dict[Any, int]()
        try:
            for place, each in enumerate(work):
                if len(places) >= jobs:
                    yield _first(ray, places)
                places[remote.remote(act, each)] = place
            while places:
                yield _first(ray, places)
        finally:
            for running in places:
                ray.cancel(running)


def _first(ray: Any, places: dict[Any, int]) -> tuple[int, Any]:
    """Wait for one of the running pieces, and take it out; one whose process died says so."""
    (ended, *_), _ = ray.wait([*places], num_returns=1)
    place = places.pop(ended)
    try:
        return place, ray.get(ended)
    except ray.exceptions.RayError as error:
        return place, Broken(reason_of(error))


@contextmanager
def _ray(pool: Pool) -> Iterator[tuple[Any, int]]:
    """Join a cluster, or start one here and end it: ray itself, and how many processors of it to use."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise MissingDependency("a Ray cluster needs ray: pip install ray") from error
    local = {} if pool.address else {"num_cpus": pool.jobs, "include_dashboard": False}
    is_ours = not ray.is_initialized()
    ray.init(address=pool.address or "local", ignore_reinit_error=True, log_to_driver=False, **local)
    try:
        yield ray, pool.jobs or int(ray.cluster_resources()["CPU"])
    finally:
        if is_ours:
            ray.shutdown()
