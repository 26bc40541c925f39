"""Help, completion, usage errors, and what starting the command costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "transformers",
    "web3",
    "libp2p",
    "trio",
    "matplotlib",
    "starlette",
    "httpx",
    "rich.console",
)
GROUPS = (
    *("demo", "up", "simulate", "ask", "chat", "worker", "node", "watch", "status"),
    *(
        "devchain",
        "base",
        "datanet",
        "train",
        "adapter",
        "receipt",
        "deposit",
        "faucet",
        "settle",
        "claim",
        "key",
        "doctor",
    ),
)


def test_help_names_every_command(lore) -> None:
    shown = lore("--help")
    assert shown.exit_code == 0
    for group in GROUPS:
        assert group in shown.stdout


def test_no_arguments_show_the_help(lore) -> None:
    assert lore().stdout == lore("--help").stdout


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_explains_itself(lore, group: str) -> None:
    shown = lore(group, "--help")
    assert shown.exit_code == 0
    assert "Usage:" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nonsense",), "error: No such command 'nonsense'; see commonlore --help\n"),
        (("key",), "error: Missing command; see commonlore key --help\n"),
        (
            ("key", "list", "--jsn"),
            "error: No such option: --jsn (Possible options: --json); see commonlore key list --help\n",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(lore, arguments: tuple[str, ...], line: str) -> None:
    wrong = lore(*arguments)
    assert wrong.exit_code == 2
    assert wrong.stderr == line
    assert wrong.stdout == ""


def test_the_version_is_printed(lore) -> None:
    assert lore("--version").stdout.startswith("commonlore ")


def test_starting_the_command_imports_nothing_heavy() -> None:
    program = f"import sys, commonlore.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_shell_completes_commands() -> None:
    words = {"_COMMONLORE_COMPLETE": "complete_bash", "COMP_WORDS": "commonlore a", "COMP_CWORD": "1"}
    script = Path(sys.executable).with_name("commonlore")
    done = subprocess.run([script], env={**os.environ, **words}, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"ask", "adapter"}
