"""Sweeps on Ray, by a Ray that computes nothing until it is waited for: what is asked of it, and when."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from commonlore.simulations.sweep.attempts import Broken
from commonlore.simulations.sweep.pool import Pool, spread


class RayError(Exception):
    """What Ray raises where a process died."""


class Ray(ModuleType):
    """The last piece that was begun ends first; one whose work is "die" takes its process along."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self):
        super().__init__("ray")
        self.most, self.calls = 0, []

    def is_initialized(self):
        return False

    def init(self, **options):
        self.calls.append(("init", options["address"], options.get("num_cpus")))

    def cluster_resources(self):
        return {"CPU": 3.0}

    def remote(self, **options):
        def chosen(act):
            return SimpleNamespace(remote=lambda *arguments: (act, arguments))

        return chosen

    def wait(self, running, *, num_returns):
        self.most = max(self.most, len(running))
        return running[-num_returns:], running[:-num_returns]

    def get(self, piece):
        act, arguments = piece
        if arguments[1] == ("die",):
            raise RayError("the worker died")
        return act(*arguments)

    def cancel(self, piece):
        self.calls.append(("cancel", piece[1][1][0]))

    def shutdown(self):
        self.calls.append(("shutdown",))


@pytest.fixture
def ray(monkeypatch):
    fake = Ray()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_rays_results_come_as_they_end(ray):
    work = [("0",), ("1",), ("die",), ("none",), ("4",)]
    ended = dict(spread(int, work, Pool(2, "ray")))
    assert [ended[place] for place in (0, 1, 4)] == [0, 1, 4]
    assert "the worker died" in ended[2].reason
    assert isinstance(ended[3], Broken)
    assert ray.most == 2
    assert ray.calls == [("init", "local", 2), ("shutdown",)]


def test_an_interruption_cancels_what_ray_computes(ray):
    results = spread(int, [(str(number),) for number in range(9)], Pool(None, "ray", "cluster:1"))
    assert next(results) == (2, 2)  # of the three that the cluster has room for
    results.close()
    assert ray.calls == [("init", "cluster:1", None), ("cancel", "0"), ("cancel", "1"), ("shutdown",)]
