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
    (tmp_path / "e6.json").write_text(json.dumps(dict.fromkeys(simulation.CALIBRATION, 0.1)))
    arguments = ["--json", "--quick", "--sizes", "1000", "--calibration", str(tmp_path / "e6.json")]
    assert simulation.main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    peers = result["peers"]["1000"]
    assert {"events_per_s", "asks_per_s", "peak_mb", "seconds"} <= set(peers)
    assert peers["completed"] == peers["asks"] > 500
    assert result["simpy_ratio"] > 0
    assert result["calibration"] == dict.fromkeys(simulation.CALIBRATION, 0.1)


def test_without_a_calibration_its_errors_are_unknown(simulation, tmp_path):
    assert simulation._calibration(tmp_path / "none.json") == dict.fromkeys(simulation.CALIBRATION)


def test_questions_are_those_of_their_seed(calibrating):
    draw_questions, plan = calibrating.draw_questions, calibrating.Plan(seconds=200.0)
    first = draw_questions(plan, 1)
    assert first == draw_questions(plan, 1)
    assert first != draw_questions(plan, 2)
    assert len(first) / 200 - plan.rate < 0.3
    assert [each.at_s for each in first] == sorted(each.at_s for each in first)
    popular = sum(each.adapter == 0 for each in first)
    assert popular > 2 * sum(each.adapter == plan.adapters - 1 for each in first)
