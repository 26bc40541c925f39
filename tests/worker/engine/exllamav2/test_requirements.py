"""One sentence for a machine that cannot run it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
import torch

from commonlore.protocol.errors import MissingDependency
from commonlore.worker.engine.exllamav2 import requirements
from commonlore.worker.engine.exllamav2.requirements import check_requirements
from commonlore.worker.engine.process.serve import build_engine
from commonlore.worker.engine.types import EngineConfig
from commonlore.worker.models.reference import BaseModel


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One that has everything."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(requirements, "version", lambda _name: "0.3.2+cu130")
    monkeypatch.setattr(requirements, "_build_tools", lambda: {"nvcc": True, "ninja": True})
    return monkeypatch


def test_nothing_is_missing_on_a_machine_that_has_it(machine: pytest.MonkeyPatch) -> None:
    check_requirements()


def absent(_name: str) -> str:
    raise PackageNotFoundError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((torch.version, "cuda", None), "is built without CUDA"),
        ((torch.cuda, "is_available", lambda: False), "finds no CUDA device"),
        ((requirements, "version", absent), "the package exllamav2 0.3.2 is not installed"),
        ((requirements, "version", lambda _name: "0.2.9"), "exllamav2 0.2.9 is installed, and only 0.3.2"),
        ((requirements, "_build_tools", lambda: {"nvcc": False, "ninja": False}), "without nvcc, ninja"),
    ],
)
def test_what_is_missing_is_named(
    machine: pytest.MonkeyPatch, change: tuple[object, str, object], said: str
) -> None:
    machine.setattr(requirements, "EXTENSION", "no_such_extension")
    machine.setattr(*change)
    with pytest.raises(MissingDependency, match="install a CUDA build of torch") as caught:
        check_requirements()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_missing_is_named_at_once(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.version, "cuda", None)
    machine.setattr(requirements, "version", absent)
    with pytest.raises(MissingDependency, match="without CUDA; the package exllamav2"):
        check_requirements()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could run it")
def test_the_engine_process_says_so_before_it_loads_anything(tiny: BaseModel) -> None:
    with pytest.raises(MissingDependency, match="exllamav2 cannot run on this machine"):
        build_engine(EngineConfig(str(tiny.directory), engine="exllamav2"))
