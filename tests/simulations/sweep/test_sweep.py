"""Sweeps on disk: interrupted, gone on with, failing in part, and never mixed with another's."""

import csv
import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.experiment.scenario import read_experiment
from commonlore.simulations.results.files import Sweep
from commonlore.simulations.sweep import run as runner
from commonlore.simulations.sweep.attempts import Broken
from commonlore.simulations.sweep.pool import Pool
from commonlore.simulations.sweep.processes import compute
from commonlore.simulations.sweep.run import run_sweep

AUDIT = {
    "kind": "audit",
    "name": "tiny_audit",
    "about": "Quick to run",
    "audit": {"verdicts": 200},
    "sweep": {"audit.cheat": ["int8", "int4"], "audit.receipts": [1, 2]},
}
FIRST = ("cheat=int8, receipts=1", 3)


@pytest.fixture
def experiment():
    return read_experiment(AUDIT)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def stopping(monkeypatch, after, error):
    """Let a run fail, once so many have ended; returns the list of all that were begun."""
    begun, act = [], runner.run_arm

    def run_arm(arm, seed):
        begun.append((arm.label, seed))
        if len(begun) == after + 1:
            raise error
        return act(arm, seed)

    monkeypatch.setattr(runner, "run_arm", run_arm)
    return begun


@pytest.fixture
def whole(experiment, tmp_path):
    run_sweep(Sweep(experiment, (3, 4), tmp_path / "whole"))
    return contents(tmp_path / "whole")


def test_an_interrupted_sweep_goes_on_with_the_rest_and_ends_the_same(
    experiment, tmp_path, monkeypatch, whole
):
    sweep = Sweep(experiment, (3, 4), tmp_path / "out")
    with monkeypatch.context() as patched:
        stopping(patched, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_sweep(sweep)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert len(manifest["missing"]) == 3
    with (tmp_path / "out/summary.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 5
    heard, begun = [], stopping(monkeypatch, 99, KeyboardInterrupt())
    run_sweep(sweep, report=lambda *told: heard.append(told))
    assert heard[0] == (5, 8, "kept before")
    assert len(begun) == 3
    assert contents(tmp_path / "out") == whole


def test_a_run_that_fails_is_told_and_tried_again(experiment, tmp_path, monkeypatch, whole):
    sweep = Sweep(experiment, (3, 4), tmp_path / "out")
    with monkeypatch.context() as patched:
        stopping(patched, 0, ZeroDivisionError("by\nnothing"))
        files = run_sweep(sweep)
    (failure,) = files.failed
    assert (failure.arm, failure.seed) == FIRST
    assert failure.reason.startswith("ZeroDivisionError in test_sweep.py, line ")
    assert failure.reason.endswith(": by nothing")
    assert (files.missing, [len(run.arms) for run in files.results]) == (1, [3, 4])
    with (tmp_path / "out/failed.csv").open() as lines:
        (row,) = csv.DictReader(lines)
    assert (row["audit.cheat"], row["audit.receipts"], row["seed"]) == ("int8", "1", "3")
    assert run_sweep(sweep).failed == ()
    assert contents(tmp_path / "out") == whole


def test_processes_and_another_order_write_the_same(experiment, tmp_path, whole):
    run_sweep(Sweep(experiment, (4,), tmp_path / "out"))
    run_sweep(Sweep(experiment, (3, 4), tmp_path / "out"), Pool(2))
    assert contents(tmp_path / "out") == whole


def test_fewer_seeds_leave_no_tables_of_others(experiment, tmp_path):
    (tmp_path / "mine.txt").touch()
    run_sweep(Sweep(experiment, (3, 4), tmp_path))
    run_sweep(Sweep(experiment, (3,), tmp_path, "parquet"))
    names = {path.name for path in tmp_path.iterdir()}
    results = {"summary.csv", "summary.parquet", "roc-3.parquet", "manifest.json"}
    assert names == {"mine.txt", "parts", *results}


def test_another_sweep_is_not_mixed_in(experiment, tmp_path):
    run_sweep(Sweep(experiment, (3, 4), tmp_path))
    other = read_experiment(AUDIT | {"audit": {"verdicts": 300}})
    with pytest.raises(ConfigError, match=r"another sweep \(audit\.verdicts 200 there, 300 here\); give"):
        run_sweep(Sweep(other, (3,), tmp_path))
    (tmp_path / "mine.txt").touch()
    run_sweep(Sweep(other, (3,), tmp_path), fresh=True)
    run_sweep(Sweep(other, (3,), tmp_path / "alone"))
    alone = contents(tmp_path / "alone")
    both = contents(tmp_path)
    assert {name: both[name] for name in both if not name.startswith("alone/")} == alone | {"mine.txt": b""}


def test_another_code_is_not_mixed_in(experiment, tmp_path):
    run_sweep(Sweep(experiment, (3,), tmp_path))
    plan = tmp_path / "parts/plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"code_sha256": "0", "numpy": "1.0"}))
    with pytest.raises(ConfigError, match=r"\(another version of the code there, numpy 1\.0 there, "):
        run_sweep(Sweep(experiment, (3,), tmp_path))


def test_files_of_somebody_else_are_not_written_over(experiment, tmp_path):
    (tmp_path / "summary.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"summary\.csv that is not of this sweep"):
        run_sweep(Sweep(experiment, (3,), tmp_path))
    assert (tmp_path / "summary.csv").read_text() == "mine"


def test_a_manifest_cannot_have_files_elsewhere_deleted(experiment, tmp_path):
    (tmp_path / "precious").touch()
    out = tmp_path / "out"
    run_sweep(Sweep(experiment, (3,), out))
    (out / "manifest.json").write_text(json.dumps({"files": {"../precious": "", "parts": ""}}))
    run_sweep(Sweep(experiment, (3,), out), fresh=True)
    assert (tmp_path / "precious").exists()
    assert (out / "parts").is_dir()


def test_a_folder_is_one_sweeps_at_a_time(experiment, tmp_path):
    sweep = Sweep(experiment, (3,), tmp_path)
    with pytest.raises(ConfigError, match="another sweep is writing into"):
        run_sweep(sweep, report=lambda *_: run_sweep(sweep))


def test_a_full_disk_is_told_with_the_file(experiment, tmp_path, monkeypatch, whole):
    write = Path.write_bytes

    def full(path, content):
        if path.name.startswith("arm0002"):
            write(path, content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left") as told:
            run_sweep(Sweep(experiment, (3, 4), tmp_path / "full"))
    assert told.value.filename == str(tmp_path / "full" / "parts" / "arm0002-seed3.json.gz")
    assert not list(tmp_path.rglob("*.partial"))
    run_sweep(Sweep(experiment, (3, 4), tmp_path / "full"))
    assert contents(tmp_path / "full") == whole


def test_a_damaged_part_is_named(experiment, tmp_path):
    run_sweep(Sweep(experiment, (3,), tmp_path))
    (tmp_path / "parts/arm0000-seed3.json.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ConfigError, match=r"arm0000-seed3\.json\.gz is damaged"):
        run_sweep(Sweep(experiment, (3,), tmp_path))


def test_where_all_fail_nothing_is_summed_up(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run_arm", lambda arm, seed: 1 // 0)
    files = run_sweep(Sweep(experiment, (3,), tmp_path))
    assert (len(files.failed), files.missing, files.results) == (4, 4, ())
    assert {path.name for path in tmp_path.iterdir()} == {"failed.csv", "manifest.json", "parts"}


@pytest.mark.parametrize(
    ("act", "argument", "reason"),
    [
        (math.sqrt, -1, "ValueError in attempts.py, line "),
        (os._exit, 3, "its process ended with status 3"),
        (signal.raise_signal, signal.SIGKILL, "its process was killed by signal 9 (out of memory?)"),
    ],
)
def test_a_process_that_dies_takes_its_own_piece_along(act, argument, reason):
    ended = dict(compute(act, [(argument,), (argument,)], 1))
    assert sorted(ended) == [0, 1]
    assert all(isinstance(each, Broken) and each.reason.startswith(reason) for each in ended.values())


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import math\nfrom commonlore.simulations.sweep.processes import compute\n"
        "print(sorted(compute(math.sqrt, [(4,), (9,)], 2)))\n"
    )
    told = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, timeout=240)
    assert (told.stdout, told.stderr) == ("[(0, 2.0), (1, 3.0)]\n", "")


def test_processes_compute_all_pieces():
    assert dict(compute(math.sqrt, [(each * each,) for each in range(7)], 2)) == {
        n: float(n) for n in range(7)
    }
