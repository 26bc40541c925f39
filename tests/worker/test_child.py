"""Child processes: what they are started with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio

from commonlore.worker.child import considerate, open_process


def test_threads_of_children_spin_shortly_unless_told_otherwise() -> None:
    assert considerate({"A": "b"}) == {"A": "b", "GOMP_SPINCOUNT": "1000"}
    for own in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}):
        assert considerate(own) == own


@pytest.mark.parametrize("given", [True, False])
def test_a_child_is_started_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    (tmp_path / "shows.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)

    async def run() -> None:
        options = {"env": os.environ | {"MORE": "1"}} if given else {}
        async with open_process(["shows"], tmp_path / "log", **options) as process:
            assert await process.wait() == 0

    trio.run(run)
    environment = json.loads((tmp_path / "log").read_text())
    assert environment["GOMP_SPINCOUNT"] == "1000"
    assert environment.get("MORE") == ("1" if given else None)
