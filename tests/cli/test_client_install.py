"""A client's installation, without any extra: every command works or says in one line what to install.

The optional packages are hidden from a process of its own, as if they had never been installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from commonlore.peer.local.extras import extras, modules_of
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.models.tiny import build_tiny

HIDDEN = sorted({module for extra in extras() for module in modules_of(extra)} - {"requests", "hexbytes"})
"""Not those two: other packages bring them too, in many installations."""
PROGRAM = f"""
import importlib.util, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {HIDDEN!r} else find(name, package)
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
import json
from commonlore.cli.main import main
for words in json.loads(sys.argv.pop()):
    sys.argv[1:], out, err, status = words, StringIO(), StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """A command line that has ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., list[Done]]:
    """Runs command lines, in turn in one process, without the optional packages."""
    places = {"COMMONLORE_HOME": str(tmp_path / "home"), "COMMONLORE_CACHE": str(tmp_path / "cache")}

    def run(*lines: tuple[str, ...]) -> list[Done]:
        command = [sys.executable, "-c", PROGRAM, json.dumps(lines)]
        ended = subprocess.run(
            command, env={**os.environ, **places}, capture_output=True, text=True, check=False, timeout=240
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return [Done(*json.loads(line)) for line in ended.stdout.splitlines()]

    return run


LACKING: Sequence[tuple[tuple[str, ...], str]] = (
    (("demo",), "worker,devchain,corpora"),
    (("demo", "--base", "tiny"), "worker,devchain,corpora"),
    (("up",), "worker,devchain"),
    (("worker",), "worker"),
    (("node", "--role", "worker"), "worker"),
    (("base", "add", "starter"), "worker"),
    (("devchain", "--port", "0"), "devchain"),
    (("faucet", "--chain-url", "http://127.0.0.1:1"), "settle"),
)


def test_what_needs_an_extra_says_which_in_one_line(client) -> None:
    for done, (words, extra) in zip(client(*(words for words, _ in LACKING)), LACKING, strict=True):
        assert done.returncode == 1, words
        assert f"pip install 'commonlore[{extra}]'" in done.stderr, words
        assert done.stderr.startswith("error: "), words
        assert done.stderr.count("\n") == 1, words


def test_bases_are_listed_and_adapters_checked_without_any_extra(client, tmp_path: Path) -> None:
    (empty,) = client(("base", "list"))
    assert empty.stdout.startswith("no bases yet")
    base = build_tiny(tmp_path / "cache")
    file = tmp_path / "adapter_model.safetensors"
    write_fake_adapter(file, base.architecture, rank=4)
    check = ("adapter", "check", str(file))
    listed, checked, lacking = client(("base", "list"), (*check, "--base", "tiny"), check)
    assert base.id in listed.stdout
    assert (checked.returncode, checked.stderr) == (0, "")
    assert lacking.stderr.startswith("error: no base 'starter' on this machine")


def test_the_doctor_needs_no_extra(client) -> None:
    (done,) = client(("doctor",))
    assert "Traceback" not in done.stderr
    assert "python" in done.stdout
