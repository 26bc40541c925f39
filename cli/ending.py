"""How a command ends: the one place where an error becomes a line on stderr and an exit status.

Rules of this file:

- What Commonlore raises on purpose, and what the operating system refuses, is one line: `error: …`, status
  1. Wrong usage is one line too, status 2. Ctrl-C is status 130, SIGTERM 143. Anything else is a defect and
  keeps its traceback.
- A nursery's group is unwrapped here: an interruption in it wins, else its first error of ours is shown.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from typer.core import TyperGroup

from ..protocol.errors import CommonloreError
from .printing import harmless

FAILED, MISUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class Terminated(BaseException):
    """SIGTERM or SIGHUP came; unwinds like Ctrl-C, so that what was started is stopped."""


class Commands(TyperGroup):
    """The root of the command line; with no arguments it shows its help."""

    def main(self, args: Any = None, *rest: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run a command line; `standalone_mode` ends the process with its status."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        run = partial(super().main, given, *rest, **{**options, "standalone_mode": False})
        status = exit_status(run)
        if standalone_mode:
            sys.exit(status)
        return status


def exit_status(run: Callable[[], object]) -> int:
    """Run to the end and give the exit status, with an error's line printed. Defects pass through."""
    try:
        returned = run()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return FAILED
    except BaseException as raised:
        error = unwrapped(raised)
        status, line = described(error)
        if line is None:
            if error is raised:
                raise
            raise error from raised
        if line:
            print(f"error: {line}", file=sys.stderr)
        return status
    return returned if isinstance(returned, int) else 0


def unwrapped(error: BaseException) -> BaseException:
    """The one error that a (nested) group stands for: an interruption, else a defect, else the first of
    ours.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    for wanted in (lambda e: isinstance(e, KeyboardInterrupt | Terminated | SystemExit), _is_defect):
        found = next((leaf for leaf in leaves if wanted(leaf)), None)
        if found is not None:
            return found
    return leaves[0]


def described(error: BaseException) -> tuple[int, str | None]:
    """(exit status, the line to show: empty for none, None for a defect)."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, ""
        case Terminated():
            return TERMINATED, ""
        case SystemExit():
            return (error.code if isinstance(error.code, int) else FAILED), ""
        case CommonloreError():
            return FAILED, one_line(str(error)) or error.code
        case OSError():
            return FAILED, one_line(_os_line(error))
        case ModuleNotFoundError() if line := _extra_line(error.name or ""):
            return FAILED, line
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own, about the usage
        return error.exit_code, _usage_line(error)
    return FAILED, "" if type(error).__name__ == "Abort" else None


def one_line(text: str) -> str:
    """`text` without line breaks, and without what a terminal obeys: it may be a stranger's."""
    return harmless(" ".join(text.split()))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP unwind like Ctrl-C: for commands that start processes."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _is_defect(error: BaseException) -> bool:
    return isinstance(error, Exception) and described(error)[1] is None


def _extra_line(module: str) -> str | None:
    """What brings a module that is not installed; None where no extra does."""
    from ..peer.local.extras import extra_of, lacking

    extra = extra_of(module)
    return None if extra is None else lacking(module.partition(".")[0], (extra,))


def _usage_line(error: Any) -> str:
    message = one_line(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "commonlore"
    return f"{message}; see {path} --help"


def _os_line(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"
