"""Compiled builds in the cache: the last few stay, and whatever somebody uses."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from commonlore.simulations.compiled.builds import ABANDONED_S, MOST_KEPT, PARTIAL, hold, prune

USER = """
import sys
from pathlib import Path
from commonlore.simulations.compiled.builds import hold
assert hold(Path(sys.argv[1])) is not None
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def builds(tmp_path):
    """Builds named after the seconds since they were used."""
    for age_s in range(10, 10 + MOST_KEPT + 3):
        made(tmp_path, str(age_s), age_s)
    return tmp_path


def made(folder, name, age_s):
    build = folder / name
    build.mkdir()
    (build / "module.so").write_bytes(b"code")
    os.utime(build, (time.time() - age_s,) * 2)
    return build


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_the_last_used_stay(builds):
    prune(builds)
    assert names(builds) == [str(10 + number) for number in range(MOST_KEPT)]


def test_what_another_process_uses_stays(builds):
    oldest, second = builds / names(builds)[-1], builds / names(builds)[-2]
    command = [sys.executable, "-c", USER, str(oldest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout.readline() == b"held\n"
        os.utime(oldest, (0, 0))
        prune(builds)
        assert (oldest / "module.so").is_file()
        assert not second.exists()
        user.stdin.close()
        user.wait()
    prune(builds)
    assert not oldest.exists()


def test_to_use_one_is_news(builds):
    oldest = builds / names(builds)[-1]
    os.close(hold(oldest))
    prune(builds)
    assert oldest.is_dir()


def test_one_that_was_deleted_meanwhile_is_not_held(builds, monkeypatch):
    build = builds / "10"
    monkeypatch.setattr(fcntl, "flock", lambda *_: build.rename(builds / "elsewhere"))
    assert hold(build) is None
    assert hold(builds / "nowhere") is None


def test_what_killed_builds_left_goes(tmp_path):
    made(tmp_path, f"{PARTIAL}left", ABANDONED_S + 60)
    made(tmp_path, f"{PARTIAL}going on", 60)
    (tmp_path / "notes.txt").write_text("mine")
    prune(tmp_path)
    assert names(tmp_path) == [f"{PARTIAL}going on", "notes.txt"]
