"""The runs of a sweep that are done, a file each in the folder of its results: what an interrupted sweep goes
on from.

Rules of this file: a file is there whole or not at all; runs of another sweep are never mixed in, and nothing
is deleted that a sweep did not write.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...protocol.errors import ConfigError
from ..experiment.kinds import Outcome
from ..experiment.scenario import Arm, Experiment
from ..experiment.sources import VERSIONED, code_digest, versions_of
from .formats import ArmResult, write_bytes

PARTS = "parts"
PLAN = "plan.json"
MANIFEST, PLOT, REPORT = "manifest.json", "plot.png", "report.html"
OWN = ("summary.csv", MANIFEST, PLOT, REPORT)
"""Files of a sweep that another program's files must not be taken for."""
MOST_TOLD = 3
HOW_ON = "give another --out, or --fresh to delete what a sweep left there"


class Kept:
    """The runs of one sweep that are done. Make it with `opened`."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self._folder = folder / PARTS
        self._numbers = {arm.label: number for number, arm in enumerate(experiment.arms)}

    def has(self, arm: Arm, seed: int) -> bool:
        """Whether this run is done."""
        return self._path(arm.label, seed).is_file()

    def put(self, result: ArmResult) -> None:
        """A run is done."""
        outcome = json.dumps(asdict(result.outcome), default=_plain, separators=(",", ":"))
        packed = gzip.compress(outcome.encode(), compresslevel=3, mtime=0)
        write_bytes(self._path(result.arm, result.seed), packed)

    def get(self, arm: Arm, seed: int) -> ArmResult:
        """What came of a run that is done. Raises ConfigError where its file is damaged."""
        path = self._path(arm.label, seed)
        try:
            outcome = Outcome(**json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} is damaged ({error}); delete it, and run again") from error
        return ArmResult(arm.label, seed, arm.choice, outcome)

    def _path(self, label: str, seed: int) -> Path:
        return self._folder / f"arm{self._numbers[label]:04d}-seed{seed}.json.gz"


@contextmanager
def opened(experiment: Experiment, folder: Path, *, fresh: bool = False) -> Iterator[Kept]:
    """The runs that are kept in a folder, which is this sweep's alone while the block lasts.

    Raises ConfigError where the folder holds another sweep's, unless `fresh`, which deletes them.
    """
    parts = folder / PARTS
    for place in (folder, parts):
        place.mkdir(parents=True, exist_ok=True)
    with _locked(parts):
        if fresh:
            _clear(folder)
        plan = plan_of(experiment)
        _check(folder, plan)
        write_bytes(parts / PLAN, (json.dumps(plan, indent=1, sort_keys=True) + "\n").encode())
        yield Kept(experiment, folder)


@contextmanager
def _locked(parts: Path) -> Iterator[None]:
    descriptor = os.open(parts, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(f"another sweep is writing into {parts.parent}; give another --out") from error
    finally:
        os.close(descriptor)


# ---- whose runs they are


def plan_of(experiment: Experiment) -> dict[str, Any]:
    """What two sweeps have in common whose runs may stand beside each other: all but seeds and formats."""
    return {
        "scenario": experiment.name,
        "scenario_sha256": experiment.digest,
        "settings": _settings(experiment),
        "arms": [arm.label for arm in experiment.arms],
        "inputs": dict(experiment.inputs),
        "code_sha256": code_digest(experiment),
        **versions_of(experiment),
    }


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Every key and its value, or its values in the sweep; as JSON reads them."""
    settings = dict(_flat(asdict(experiment.arms[0].written)))
    for key in experiment.swept:
        values = [dict(arm.choice)[key] for arm in experiment.arms]
        settings[key] = [each for at, each in enumerate(values) if each not in values[:at]]
    unchanged: dict[str, Any] = json.loads(json.dumps(settings))
    return unchanged


def _flat(table: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _check(folder: Path, plan: dict[str, Any]) -> None:
    try:
        before = json.loads((folder / PARTS / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        stray = [name for name in OWN if (folder / name).exists()]
        if stray:
            raise ConfigError(f"{folder} has a {stray[0]} that is not of this sweep; {HOW_ON}") from None
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / PARTS / PLAN} is damaged; {HOW_ON}") from error
    differences = _differences(before, plan)
    if differences:
        raise ConfigError(f"{folder} holds runs of another sweep ({differences}); {HOW_ON}")


def _differences(before: dict[str, Any], plan: dict[str, Any]) -> str:
    """What differs, in words; empty if nothing does."""
    if before == plan:
        return ""
    if before.get("scenario") != plan["scenario"]:
        return f"of {before.get('scenario')}, not {plan['scenario']}"
    old, new = before.get("settings", {}), plan["settings"]
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    told = [f"{key} {_short(old.get(key))} there, {_short(new.get(key))} here" for key in keys[:MOST_TOLD]]
    if len(keys) > MOST_TOLD:
        told.append(f"{len(keys) - MOST_TOLD} settings more")
    others = {"inputs": "other input files", "code_sha256": "another version of the code"}
    told += [f"{words} there" for name, words in others.items() if before.get(name) != plan[name]]
    for name in VERSIONED:
        if before.get(name) != plan.get(name):
            told.append(f"{name} {before.get(name)} there, {plan.get(name)} here")
    return ", ".join(told) or "its scenario is written otherwise"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(str, value[:6])) + ("/…" if len(value) > 6 else "")
    return "unset" if value is None else str(value)


def _clear(folder: Path) -> None:
    """Delete what sweeps wrote here."""
    for path in (folder / PARTS).glob("arm*-seed*.json.gz"):
        path.unlink()
    for name in (*listed(folder), *OWN, f"{PARTS}/{PLAN}"):
        (folder / name).unlink(missing_ok=True)


def listed(folder: Path) -> list[str]:
    """The files that a folder's manifest names: those of the sweep that was written here last."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return [name for name in names if Path(name).name == name and (folder / name).is_file()]
    return []


def _plain(value: Any) -> Any:
    """A number of numpy's as JSON knows it."""
    return value.item()
