"""`simulate`: files, the same for the same seed, and errors that say what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commonlore.simulations.sweep import run as runner

SCENARIO = """
name = "small"
about = "Two workers for a few seconds"
warmup_ms = 500
duration_ms = 3_000
[workers]
count = 2
[work]
rate_per_s = 4.0
[adapters]
count = 3
[sweep]
"scheduler.policy" = ["random", "affinity_and_load"]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


def test_the_same_seed_writes_the_same_files(lore, scenario: Path, tmp_path: Path) -> None:
    out = [tmp_path / "a", tmp_path / "b"]
    runs = [lore("simulate", "run", str(scenario), "--seed", "7", "--out", str(path)) for path in out]
    assert [run.exit_code for run in runs] == [0, 0]
    assert "affinity_and_load" in runs[0].stdout
    for name in ("summary.csv", "asks-7.csv", "manifest.json"):
        assert (out[0] / name).read_bytes() == (out[1] / name).read_bytes()
    assert (out[0] / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_results_for_programs(lore, scenario: Path, tmp_path: Path) -> None:
    done = lore("simulate", "run", str(scenario), "--seeds", "0-1", "--out", str(tmp_path / "out"), "--json")
    summaries = json.loads(done.stdout)
    assert [(each["arm"], each["seed"]) for each in summaries] == [
        ("policy=random", 0),
        ("policy=affinity_and_load", 0),
        ("policy=random", 1),
        ("policy=affinity_and_load", 1),
    ]
    assert all(each["conserved"] for each in summaries)


def test_the_packaged_scenarios_are_listed(lore) -> None:
    assert "first_light" in {each["name"] for each in json.loads(lore("simulate", "list", "--json").stdout)}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere",), "error: no scenario 'nowhere'; give a .toml file or one of: capacity, churn"),
        (("first_light", "--seeds", "9-0"), "error: not seeds: '9-0'; a range rises"),
    ],
)
def test_what_cannot_be_run_is_one_line(lore, arguments: tuple[str, ...], line: str) -> None:
    failed = lore("simulate", "run", *arguments)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(line)
    assert failed.stderr.count("\n") == 1


def test_seed_and_seeds_exclude_each_other(lore) -> None:
    wrong = lore("simulate", "run", "first_light", "--seed", "1", "--seeds", "0-3")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("error: Invalid value: give either --seed or --seeds;")


def test_ctrl_c_keeps_what_is_done_and_failures_are_told(
    lore, scenario: Path, tmp_path: Path, monkeypatch
) -> None:
    act, errors = runner.run_arm, iter([None, KeyboardInterrupt(), ValueError("too hot"), None])

    def run_arm(arm, seed):
        error = next(errors)
        if error is not None:
            raise error
        return act(arm, seed)

    monkeypatch.setattr(runner, "run_arm", run_arm)
    command = ("simulate", "run", str(scenario), "--out", str(tmp_path / "out"))
    stopped = lore(*command)
    assert stopped.exit_code == 130
    assert "stopped: 1 of 2 runs are kept in" in stopped.stderr
    failed = lore(*command)
    assert failed.exit_code == 1
    assert "failed: policy=affinity_and_load, seed 0: ValueError in test_simulate.py, line " in failed.stderr
    assert lore(*command).exit_code == 0
    other = lore(*command, "-p", "workers.count=3")
    assert other.exit_code == 1
    assert "holds runs of another sweep (workers.count 2 there, 3 here)" in other.stderr


def test_keys_are_listed(lore) -> None:
    keys = {each["key"]: each for each in json.loads(lore("simulate", "keys", "E3", "--json").stdout)}
    assert keys["attack.bond"]["allowed"] == "0 to 1,000,000,000,000, fractions too"
