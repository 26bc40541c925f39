"""A client's installation, without any extra: every command works or says in one line what to install.

The optional packages are hidden from a process of its own, as if they had never been installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commonlore.peer.extras import extras, modules_of
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
from commonlore.cli.main import main
main()
"""


@pytest.fixture
def client(tmp_path: Path):
    """Runs a command line without the optional packages."""
    places = {"COMMONLORE_HOME": str(tmp_path / "home"), "COMMONLORE_CACHE": str(tmp_path / "cache")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, *words]
        return subprocess.run(
            command, env={**os.environ, **places}, capture_output=True, text=True, check=False, timeout=60
        )

    return run


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("demo",), "worker,devchain,corpora"),
        (("demo", "--base", "tiny"), "worker,devchain,corpora"),
        (("up",), "worker,devchain"),
        (("worker",), "worker"),
        (("node", "--role", "worker"), "worker"),
        (("base", "add", "starter"), "worker"),
        (("devchain", "--port", "0"), "devchain"),
        (("faucet", "--chain-url", "http://127.0.0.1:1"), "settle"),
    ],
)
def test_what_needs_an_extra_says_which_in_one_line(client, words: tuple[str, ...], extra: str) -> None:
    done = client(*words)
    assert done.returncode == 1
    assert f"pip install 'commonlore[{extra}]'" in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_bases_are_listed_and_adapters_checked_without_any_extra(client, tmp_path: Path) -> None:
    assert client("base", "list").stdout.startswith("no bases yet")
    base = build_tiny(tmp_path / "cache")
    assert base.id in client("base", "list").stdout
    file = tmp_path / "adapter_model.safetensors"
    write_fake_adapter(file, base.architecture, rank=4)
    checked = client("adapter", "check", str(file), "--base", "tiny")
    assert (checked.returncode, checked.stderr) == (0, "")
    lacking = client("adapter", "check", str(file))
    assert lacking.stderr.startswith("error: no base 'starter' on this machine")


def test_the_doctor_needs_no_extra(client) -> None:
    done = client("doctor")
    assert "Traceback" not in done.stderr
    assert "python" in done.stdout
