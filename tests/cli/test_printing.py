"""What strangers wrote, on a person's terminal."""

from __future__ import annotations

import io
import sys

import pytest

from commonlore.cli.ask import _told
from commonlore.cli.ending import exit_status
from commonlore.cli.printing import print_facts, print_table, say, shown
from commonlore.cli.receipt import _print_finding
from commonlore.peer.attribution.findings import Finding
from commonlore.protocol.errors import RemoteProtocolError

HOSTILE = "ok\x1b[2J\x1b]0;mine\x07\x9b1m\u202eevil\nTotal 100 %\r"


def _refused() -> None:
    raise RemoteProtocolError(HOSTILE)


@pytest.mark.parametrize(
    "print_it",
    [
        lambda: print_facts({"name": HOSTILE, "names": [HOSTILE]}),
        lambda: print_table(("name",), [[HOSTILE]]),
        lambda: say(HOSTILE),
        lambda: _print_finding(Finding(1, False, (HOSTILE,), ())),
        lambda: exit_status(_refused),
    ],
    ids=["facts", "table", "say", "finding", "error"],
)
def test_no_control_of_a_stranger_reaches_the_terminal(print_it, capfd: pytest.CaptureFixture[str]) -> None:
    print_it()
    told = "".join(capfd.readouterr())
    assert "ok\N{REPLACEMENT CHARACTER}[2J" in told
    assert not set(told) & set("\x1b\x07\x9b\u202e\r")


def test_a_name_cannot_make_lines_of_its_own() -> None:
    assert "\n" not in shown(HOSTILE)


def test_an_answer_is_harmless_on_a_terminal_and_whole_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    assert _told(HOSTILE) == HOSTILE
    screen.isatty = lambda: True  # type: ignore[method-assign]
    assert "\x1b" not in _told(HOSTILE)
    assert _told("zwei\n\tZeilen, \u0646\u200c\u0627") == "zwei\n\tZeilen, \u0646\u200c\u0627"
