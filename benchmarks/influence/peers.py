"""Other people's attribution packages on our adapters, each in its own environment.

Rules of this file: what an arm needs lies in one folder (`hand_over`), and so does what it says; an arm that
cannot be run is absent with its last words, and everything else is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from commonlore.worker.factory.examples import Example

from ..child import ROOT, note
from .methods import Scored, Subject
from .world import World

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
LONGEST_S = 1_800


class ArmFailed(Exception):
    """An arm ended without a result; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A module of `arms`, the method of it that is meant, and the epoch whose adapter it sees."""

    module: str
    method: str
    epoch: int | None = None
    """None: the last."""
    pace: int = 2
    """1: quick enough for every world, attacks included; 2: for every seed; 3: minutes, for one seed."""


ARMS: Mapping[str, Arm] = {
    "bm25s": Arm("lexical", "bm25", pace=1),
    "embeddings": Arm("lexical", "embeddings", pace=1),
    "dattri-logra": Arm("logra", "logra"),
    "bergson": Arm("bergson_arm", "cosine"),
    "kronfluence-ekfac": Arm("kronfluence_arm", "ekfac", pace=3),
}


def run_arm(name: str, subject: Subject, texts: Sequence[str], folder: Path) -> Scored:
    """A peer's scores on an adapter. Raises ArmFailed."""
    arm = ARMS[name]
    out = folder / f"{name}.npz"
    if not out.exists():
        hand_over(subject, texts, folder)
        note(f"{subject.learner.world.name} {subject.learner.world.seed}: {name}")
        _start(arm, arm.epoch or subject.last, folder, out)
    return _read(out)


def run_by_texts(name: str, rows: Sequence[str], questions: Sequence[str], folder: Path) -> Scored:
    """The scores of a peer that reads texts only. Raises ArmFailed."""
    out = folder / f"{name}.npz"
    if not out.exists():
        texts = {"row_texts": list(rows), "question_texts": list(questions)}
        nothing = {"base": "", "rank": 0, "alpha": 0, "seed": 0}
        tokens = {"rows": [[[], 0]] * len(rows), "questions": [[[], 0]] * len(questions)}
        (folder / "task.json").write_text(json.dumps(nothing | tokens | texts))
        _start(ARMS[name], 0, folder, out)
    return _read(out)


def _read(out: Path) -> Scored:
    said = np.load(out)
    return Scored(
        np.asarray(said["scores"], np.float64),
        float(said["bytes_per_example"]),
        float(said["index_seconds"]),
        float(said["query_seconds"]),
    )


def _start(arm: Arm, epoch: int, folder: Path, out: Path) -> None:
    if not PYTHON.exists():
        raise ArmFailed("there is no .venv-peers: run make bench-peers")
    command = [PYTHON, "-m", f"benchmarks.influence.arms.{arm.module}"]
    partly = out.with_suffix(".partial.npz")
    done = subprocess.run(
        [*command, arm.method, str(epoch), folder, partly],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode != 0 or not partly.exists():
        raise ArmFailed(f"{arm.module} {arm.method}: {done.stderr[-1500:]}")
    partly.rename(out)


def hand_over(subject: Subject, texts: Sequence[str], folder: Path) -> None:
    """Write what arms read: `task.json`, and the adapter's states as `state-EPOCH.npz`."""
    world = subject.learner.world
    folder.mkdir(parents=True, exist_ok=True)
    for epoch, state in subject.states.items():
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        np.savez(folder / f"state-{epoch}.npz", **arrays)
    (folder / "task.json").write_text(json.dumps(_task(world, subject.rows, texts)))


def _task(world: World, rows: Sequence[Example], texts: Sequence[str]) -> dict[str, object]:
    return {
        "base": str(world.base.directory),
        "rank": world.course.rank,
        "alpha": world.course.alpha,
        "seed": world.seed,
        "rows": [[list(row.tokens), row.answer_start] for row in rows],
        "questions": [[list(each.tokens), each.answer_start] for each in world.questions],
        "row_texts": list(texts),
        "question_texts": list(world.question_texts),
    }
