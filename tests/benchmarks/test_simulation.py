"""The simulator's benchmark: its parts in small, and the keys of its result."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.simulation")


@pytest.fixture
def calibrating(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.calibrating")


def test_a_small_measurement_has_all_keys(simulation, capsys, tmp_path):
    out = tmp_path / "simulation.json"
    assert simulation.main(["--json", "--quick", "--sizes", "1000", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    peers = result["peers"]["1000"]
    assert {"events_per_s", "asks_per_s", "peak_mb", "seconds"} <= set(peers)
    assert peers["completed"] == peers["asks"] > 500
    assert result["simpy_ratio"] > 0
    assert all(0 <= result["calibration"][name] < 10 for name in simulation.CALIBRATION)
    assert set(result["capacity_asks_per_s"]) == set(simulation.GLOBAL_POLICIES)
    assert set(result["parts"]) == set(simulation.PARTS)
    assert json.loads(out.read_text()) == result


def test_parts_that_were_measured_before_stay(simulation, capsys, tmp_path):
    out = tmp_path / "simulation.json"
    out.write_text(
        json.dumps({"simpy_ratio": 9.0, "parts": {"kernel": {"seconds": 1}}, "peers": {"1000": 1}})
    )
    assert simulation.main(["--quick", "--parts", "calibration", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["simpy_ratio"], result["peers"]) == (9.0, {"1000": 1})
    assert set(result["parts"]) == {"kernel", "calibration"}
    with pytest.raises(SystemExit):
        simulation.main(["--parts", "everything"])
    assert "no part everything" in capsys.readouterr().err


def test_questions_are_those_of_their_seed(calibrating):
    draw_questions, plan = calibrating.draw_questions, calibrating.Plan(seconds=200.0)
    first = draw_questions(plan, 1)
    assert first == draw_questions(plan, 1)
    assert first != draw_questions(plan, 2)
    assert len(first) / 200 - plan.rate < 0.3
    assert [each.at_s for each in first] == sorted(each.at_s for each in first)
    popular = sum(each.adapter == 0 for each in first)
    assert popular > 2 * sum(each.adapter == plan.adapters - 1 for each in first)
