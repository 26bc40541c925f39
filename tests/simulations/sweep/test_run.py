import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.results.files import Sweep, manifest_json
from commonlore.simulations.results.plot import draw
from commonlore.simulations.studies.service import ROLES
from commonlore.simulations.sweep.run import parse_seeds, run, run_arm, run_sweep

GOLDEN = Path(__file__).with_name("golden.csv")
"""`summary.csv` of the tiny scenario with seed 7. A change of the scheduler, of the receipts' arithmetic or
of a model shows here: look at what moved, then write the file anew with REGENERATE=1."""


def rows(arm):
    """The asks of an arm, a dictionary each."""
    columns = arm.outcome.tables["asks"]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def asks_of(arm):
    return [(row["arrived_us"], row["adapter"], row["prompt_tokens"]) for row in rows(arm)]


def contents(folder):
    """Every file below a folder, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def ran(tiny):
    return run(tiny, 7)


def test_golden_run(tiny, tmp_path):
    run_sweep(Sweep(tiny, (7,), tmp_path))
    summary = (tmp_path / "summary.csv").read_text()
    if os.environ.get("REGENERATE"):
        GOLDEN.write_text(summary)
    assert summary == GOLDEN.read_text()


def test_every_ask_has_one_end_and_money_is_conserved(ran):
    for arm in ran.arms:
        assert arm.outcome.summary["conserved"] == 1
        assert arm.outcome.summary["epochs"] > 0
        asks = rows(arm)
        assert [row["ask"] for row in asks] == list(range(len(asks)))
        assert {row["outcome"] for row in asks} <= {"completed", "deadline_exceeded", "failed", "busy"}
        for row in asks:
            whole = row["outcome"] == "completed"
            assert (row["delivered"] == row["output_tokens"]) is whole
            assert (row["total_us"] >= row["ttft_us"] >= 0) if whole else row["total_us"] == -1
            assert (row["price"] > 0) or not whole
        summary = arm.outcome.summary
        assert sum(summary[role] for role in ROLES) == summary["volume"]


def test_answers_go_on_elsewhere_when_a_worker_dies(ran):
    every = [row for arm in ran.arms for row in rows(arm)]
    again = [row for row in every if row["attempts"] > 1 and row["outcome"] == "completed"]
    assert again, "the tiny scenario has churn"


def test_arms_of_a_seed_see_the_same_asks_and_seeds_do_not(tiny, ran):
    asked = [asks_of(arm) for arm in ran.arms]
    assert asked[0] == asked[1]
    assert asked[0] != asks_of(run_arm(tiny.arms[0], 8))


SCRIPT = """
import json, sys
from pathlib import Path
from commonlore.simulations.results.files import Sweep
from commonlore.simulations.sweep.run import run_sweep
from commonlore.simulations.experiment.scenario import read_experiment
run_sweep(Sweep(read_experiment(json.loads(sys.argv[1])), (3, 4), Path(sys.argv[2])))
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process(table, tmp_path):
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", SCRIPT, json.dumps(table), str(tmp_path / hash_seed)]
        subprocess.run(command, check=True, timeout=240, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    results = {name for name in one if not name.startswith("parts/")}
    assert results == {"asks-3.csv", "asks-4.csv", "manifest.json", "summary.csv"}
    assert one == two


def test_each_run_is_told(tiny, tmp_path):
    heard = []
    run_sweep(Sweep(tiny, (1, 2), tmp_path / "one"), report=lambda *done: heard.append(done))
    assert heard[0] == (1, 4, "policy=affinity_and_load, seed 1")
    assert heard[-1] == (4, 4, "policy=random, seed 2")


def test_files_say_what_they_were_made_of(tiny, tmp_path):
    files = run_sweep(Sweep(tiny, (1,), tmp_path))
    manifest = json.loads(files.manifest.read_text())
    assert (manifest["scenario"], manifest["seeds"]) == ("tiny", [1])
    assert manifest["scenario_sha256"] == tiny.digest
    assert set(manifest["files"]) == {"summary.csv", "asks-1.csv"}
    with files.summary.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["arm"] for row in rows] == ["policy=affinity_and_load", "policy=random"]
    assert rows[0]["asks"] == rows[1]["asks"]


def test_files_that_were_read_are_named_alike_wherever_they_lie(table, tmp_path):
    del table["sweep"]
    table["work"]["trace"] = "csv:trace.csv"
    manifests = []
    for place, tokens in (("here", 9), ("there", 9), ("other", 8)):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "trace.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n0,9,{tokens}\n")
        experiment = read_experiment(table, folder)
        manifests.append(manifest_json(experiment, [1], {}))
        assert str(folder / "trace.csv") in experiment.arms[0].scenario.work.trace
    assert manifests[0] == manifests[1] != manifests[2]
    assert list(json.loads(manifests[0])["inputs"]) == ["trace.csv"]


def test_where_nothing_can_be_written_nothing_is_computed(tiny, tmp_path):
    (tmp_path / "file").touch()
    heard = []
    with pytest.raises(FileExistsError):
        run_sweep(Sweep(tiny, (1,), tmp_path / "file"), report=lambda *done: heard.append(done))
    assert heard == []


def test_the_plot_is_drawn(tiny, tmp_path):
    results = [run(tiny, seed) for seed in (1, 2)]
    draw(tiny, results, tmp_path / "tiny.png")
    draw(tiny, results[:1], tmp_path / "tiny.svg")
    assert (tmp_path / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "tiny.svg").stat().st_size > 10_000


def test_nobody_asks_and_nothing_breaks(table, tmp_path):
    table["work"]["rate_per_s"] = 0.001
    experiment = read_experiment(table)
    summary = run(experiment, 1).arms[0].outcome.summary
    names = ("asks", "ttft_p50_ms", "volume", "conserved")
    assert [summary[name] for name in names] == [0, 0.0, 0, 1]
    draw(experiment, [run(experiment, 1)], tmp_path / "empty.png")


def test_overload_is_told_and_paid_for(table):
    table["work"]["rate_per_s"] = 60.0
    table["workers"]["max_queue"] = 2
    table["work"]["deadline_ms"] = 5_000
    for arm in run(read_experiment(table), 1).arms:
        outcomes = {row["outcome"] for row in rows(arm)}
        assert "deadline_exceeded" in outcomes
        assert arm.outcome.summary["conserved"] == 1


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", (7,)), ("0-3", (0, 1, 2, 3)), ("1, 4,8-9", (1, 4, 8, 9)), ("5-5", (5,))]
)
def test_seeds_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "-3", "3-", "9-1", "1,,2", "1.5", "0-99999", "4,2-5", str(1 << 64)]
)
def test_what_is_no_seed_is_named(text):
    with pytest.raises(ConfigError):
        parse_seeds(text)


def test_no_seeds_no_files(tiny, tmp_path):
    with pytest.raises(ConfigError, match="no seeds"):
        run_sweep(Sweep(tiny, (), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
