"""The child's side of an engine under measurement: orders in, times out."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from ..child import next_order, say
from ..engines.jobs import Answered, Ask, Job, Message, job_of

PR_SET_PDEATHSIG = 1


class Absent(Exception):
    """The engine cannot do this; the message says why."""


class Arm(ABC):
    """One engine with its base loaded."""

    @abstractmethod
    def facts(self) -> Message:
        """Version and whatever else a reader should know of this arm."""

    @abstractmethod
    def run(self, job: Job) -> list[Answered]:
        """Answer a job, in its order."""

    def bring(self, adapter: int) -> None:
        """From disk to where the next request can use it. Raises Absent."""
        raise Absent("adapters are loaded when the engine starts")

    def hold_in_memory(self, adapters: Sequence[int]) -> None:
        """Have them in the process's memory, none of them where a request could use it at once."""
        raise Absent("there is no tier between disk and use")

    def activate(self, adapter: int) -> None:
        """From the process's memory to where the next request can use it. Raises Absent."""
        raise Absent("there is no tier between disk and use")

    def filled_ms(self) -> float:
        """Milliseconds spent so far on moving adapters into use while requests ran."""
        return 0.0


def serve(open_arm: Callable[[Mapping[str, Any]], Arm]) -> int:
    """Obey the parent until it closes. The first order is the settings."""
    _die_with_parent()
    parent = _keep_stdout_ours()
    settings = next_order()
    if settings is None:
        return 0
    try:
        arm = open_arm(settings)
        say({"ready": True, "facts": arm.facts()}, parent)
    except Exception as wrong:  # whatever a library raises: this arm is absent, the others go on
        traceback.print_exc()
        say({"absent": f"{type(wrong).__name__}: {str(wrong).strip()[:300]}"}, parent)
        return 0
    while (order := next_order()) is not None:
        say(obey(arm, order), parent)
    sys.stderr.flush()
    os._exit(0)  # an engine's threads may not end, and have nothing to lose


def obey(arm: Arm, order: Mapping[str, Any]) -> Message:
    """One order's answer; `absent` when the engine cannot do it."""
    try:
        match order["do"]:
            case "run":
                return _run(arm, job_of(order))
            case "bring":
                return _time_each(arm, order, arm.bring, cold=True)
            case "bring_quietly":
                return _bring_quietly(arm, order["adapters"])
            case "activate":
                arm.hold_in_memory(order["adapters"])
                return _time_each(arm, order, arm.activate, cold=False)
            case unknown:
                return {"absent": f"unknown order {unknown!r}"}
    except Absent as why:
        return {"absent": str(why)}


def _run(arm: Arm, job: Job) -> Message:
    cpu, wall = time.process_time(), time.perf_counter()
    answered = arm.run(job)
    seconds, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "tokens": sum(one.tokens for one in answered),
        "ttft_ms": [one.ttft_ms for one in answered],
        "tpot_ms": [one.tpot_ms for one in answered],
        "begins": [one.begins for one in answered],
    }


def _bring_quietly(arm: Arm, adapters: Sequence[int]) -> Message:
    for adapter in adapters:
        arm.bring(adapter)
    return {"done": len(adapters)}


def _time_each(arm: Arm, order: Mapping[str, Any], move: Callable[[int], None], *, cold: bool) -> Message:
    """Move adapters one by one, each followed by two requests for one token.

    `ms` is the move with what the first request still spent on it, as the engine itself says (`filled_ms`).
    """
    moved: dict[str, list[float]] = {"ms": [], "cpu_ms": [], "first_token_ms": [], "next_token_ms": []}
    prompts = iter(order["prompts"])
    for adapter, file in zip(order["adapters"], order["files"], strict=True):
        if cold:
            drop_from_page_cache(file)
        cpu, wall = time.process_time(), time.perf_counter()
        filled = arm.filled_ms()
        move(adapter)
        spent = 1000 * (time.perf_counter() - wall)
        moved["cpu_ms"].append(1000 * (time.process_time() - cpu))
        for name in ("first_token_ms", "next_token_ms"):
            (answer,) = arm.run(Job((Ask(tuple(next(prompts)), adapter),), 1, 1))
            moved[name].append(answer.ttft_ms)
        moved["ms"].append(spent + arm.filled_ms() - filled)
    return dict(moved)


def drop_from_page_cache(path: str) -> None:
    """So that the next read comes from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _die_with_parent() -> None:
    """An arm whose turn it is not is stopped, and would never see its standard input close."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _keep_stdout_ours() -> TextIO:
    """The way to the parent. What libraries print goes to standard error from now on."""
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return parent
