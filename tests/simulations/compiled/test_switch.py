"""The switch to compiled modules. What they compute is compared where they lie in the cache: `make compiled`
puts them there, and runs the tests of scheduler and simulator over them."""

import json
import os
import subprocess
import sys

import pytest

from commonlore.protocol.errors import LocalProtocolError, MissingDependency
from commonlore.simulations.compiled import switch as compiled
from commonlore.simulations.experiment.sources import PACKAGE

SCRIPT = """
import json, sys
from pathlib import Path
from commonlore.simulations.compiled.switch import is_compiled
from commonlore.scheduler import core
from commonlore.simulations.results.files import Sweep
from commonlore.simulations.sweep.run import run_sweep
from commonlore.simulations.experiment.scenario import read_experiment
assert is_compiled() is core.__file__.endswith(".so") is (sys.argv[3] == "1"), core.__file__
run_sweep(Sweep(read_experiment(json.loads(sys.argv[1])), (3, 4), Path(sys.argv[2])))
"""
CROWD = {
    "kind": "service",
    "name": "crowd",
    "about": "",
    "warmup_ms": 0,
    "duration_ms": 20_000,
    "workers": {"model": "seats", "count": 100, "slots": 4, "max_batch": 2, "max_queue": 2},
    "work": {"rate_per_s": 20.0},
    "adapters": {"count": 100},
    "churn": {"mean_lifetime_ms": 8_000, "mean_absence_ms": 2_000},
}


def is_built() -> bool:
    try:
        return compiled.home().is_dir()
    except MissingDependency:
        return False


@pytest.mark.skipif(not is_built(), reason="make compiled has not been run on these sources")
@pytest.mark.parametrize("model", ["batching", "seats"])
def test_the_compiled_core_writes_the_same_bytes(table, tmp_path, model):
    scenario = table if model == "batching" else CROWD
    for switch in ("0", "1"):
        command = [sys.executable, "-c", SCRIPT, json.dumps(scenario), str(tmp_path / switch), switch]
        subprocess.run(command, check=True, timeout=240, env={**os.environ, compiled.SWITCH: switch})
    plain, made = tmp_path / "0", tmp_path / "1"
    names = {path.relative_to(plain) for path in plain.rglob("*") if path.is_file()}
    assert {"asks-3.csv", "manifest.json", "summary.csv"} <= {name.name for name in names}
    for name in names:
        assert (plain / name).read_bytes() == (made / name).read_bytes(), name


def test_every_hot_module_is_there():
    for name in compiled.hot_modules():
        assert (PACKAGE / f"{name.replace('.', '/')}.py").is_file(), name


def test_it_is_too_late_once_the_scheduler_is_imported(monkeypatch):
    monkeypatch.setattr(compiled, "is_compiled", lambda: False)
    import commonlore.scheduler.core  # noqa: F401

    with pytest.raises(LocalProtocolError, match="import simulations first"):
        compiled.switch_on()


def test_what_was_compiled_while_its_sources_changed_is_not_kept(tmp_path, monkeypatch):
    def before() -> str:
        return "before"

    before.__wrapped__ = lambda: "after"
    monkeypatch.setattr(compiled, "home", lambda: tmp_path / "builds" / "key")
    monkeypatch.setattr(compiled, "rooms_digest", before)
    monkeypatch.setattr(compiled, "_build", lambda folder: (folder / "made").mkdir())
    with pytest.raises(MissingDependency, match="changed while they were compiled"):
        compiled.built()
    assert not list((tmp_path / "builds").iterdir())
    before.__wrapped__ = before
    assert compiled.built().is_dir()


def test_another_source_is_another_build(monkeypatch):
    homes = set()
    for digest in ("a", "b", "b"):
        monkeypatch.setattr(compiled, "rooms_digest", lambda digest=digest: digest)
        homes.add(compiled.home.__wrapped__())
    assert len(homes) == 2


def test_who_has_no_mypyc_is_told_what_to_install(monkeypatch):
    def version(name):
        raise compiled.PackageNotFoundError(name)

    monkeypatch.setattr(compiled, "version", version)
    with pytest.raises(MissingDependency, match=r"commonlore\[compiled\]"):
        compiled.home.__wrapped__()


def test_a_build_that_lost_a_module_is_refused(tmp_path):
    with pytest.raises(MissingDependency, match="not whole: remove that folder"):
        compiled._load_library(tmp_path)


def test_what_does_not_compile_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "home", lambda: tmp_path / "compiled" / "key")
    monkeypatch.setattr(compiled, "hot_modules", lambda: ("scheduler.no_such_module",))
    with pytest.raises(MissingDependency, match="cannot be compiled"):
        compiled.built()
    assert [*(tmp_path / "compiled").iterdir()] == []
