"""What every command's end looks like: one line, and a status that says which kind of end it was."""

from __future__ import annotations

import os
import signal

import pytest

from commonlore.cli.ending import Terminated, described, ended_by_signals, exit_status, unwrapped
from commonlore.protocol.errors import ConfigError, NotFound, Refused


def raising(error: BaseException) -> object:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("port 80 is taken;\n choose another"), 1, "port 80 is taken; choose another"),
        (NotFound(""), 1, "not_found"),
        (Refused("price", "too dear"), 1, "too dear"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (
            ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"),
            1,
            "this needs torch, which is not installed: pip install 'commonlore[worker]'",
        ),
        (KeyboardInterrupt(), 130, ""),
        (Terminated(), 143, ""),
        (SystemExit(3), 3, ""),
        (ExceptionGroup("nursery", [NotFound("no such thing")]), 1, "no such thing"),
        (ExceptionGroup("a", [ExceptionGroup("b", [NotFound("x"), ConfigError("y")])]), 1, "x"),
        (BaseExceptionGroup("nursery", [NotFound("x"), KeyboardInterrupt()]), 130, ""),
    ],
)
def test_an_error_is_a_line_and_a_status(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(lambda: raising(error)) == status
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {line}\n" if line else "")


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 // 0)


def test_a_defect_beside_an_error_of_ours_is_shown() -> None:
    group = ExceptionGroup("nursery", [NotFound("x"), ZeroDivisionError()])
    assert isinstance(unwrapped(group), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: raising(group))


def test_a_command_that_returns_ends_well() -> None:
    assert exit_status(lambda: None) == 0
    assert exit_status(lambda: 7) == 7


def test_a_terminating_signal_unwinds() -> None:
    def run() -> None:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert exit_status(run) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_described_tells_defects_apart() -> None:
    assert described(ValueError("?")) == (1, None)
