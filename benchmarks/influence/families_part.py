"""DataInf's families: does a method find rows of a question's kind, and rows with a wrong answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from commonlore.worker.factory.examples import Example

from ..child import note
from .bases import START, tiny_base, train_tokenizer
from .batched import batched_index
from .families import Task, draw_family, flip
from .measures import Floats, auc
from .methods import OWN, Scored, Subject
from .ours import Setting, scored
from .peers import ArmFailed, run_arm
from .texts import Entry
from .training import Learner
from .world import Course, World

FLIPPED = 0.2
LONGEST = 96
COURSE = Course()
METHODS = ("dot", "tracincp", "datainf", "ekfac-full", "random")
Message = dict[str, Any]


def measure_family(
    keep: Path, named: tuple[str, int], sizes: tuple[int, int], base: int, arms: Sequence[str]
) -> Message:
    """By method: `same_kind` AUC, `recall` of a kind's rows among as many best, AUC of `flipped` rows."""
    family, seed = named
    rows, questions = draw_family(family, seed, *sizes)
    wrong, marks = flip(rows, seed, FLIPPED)
    found: dict[str, Message] = {}
    for clean, given in ((True, rows), (False, wrong)):
        folder = keep / f"family-{family}-{seed}" / ("clean" if clean else "flipped")
        world = _world(keep, (family, seed, folder, base), given, questions)
        kinds = [row.kind for row in given], [question.kind for question in questions]
        for name, each in _all_scores(world, arms).items():
            said = (
                same_kind(each.scores, *kinds) if clean else {"flipped": flipped(each.scores, *kinds, marks)}
            )
            found.setdefault(name, {}).update(said)
            note(f"{family} {seed}: {name}: {said}")
    return found


def same_kind(scores: Floats, rows: Sequence[str], questions: Sequence[str]) -> Message:
    """Mean over questions."""
    areas, recalls = [], []
    for question, each in zip(questions, scores, strict=True):
        own = np.array([row == question for row in rows])
        areas.append(auc(each, own))
        recalls.append(own[np.argsort(-each, kind="stable")[: own.sum()]].mean())
    return {"same_kind": float(np.mean(areas)), "recall": float(np.mean(recalls))}


def flipped(scores: Floats, rows: Sequence[str], questions: Sequence[str], marks: Sequence[bool]) -> float:
    """How well a low sum of scores towards held-out questions of a row's own kind tells a flipped row."""
    own = np.array([[row == question for row in rows] for question in questions])
    helped = np.where(own, scores, 0.0).sum(0)
    return auc(-helped, np.array(marks))


def _world(
    keep: Path, named: tuple[str, int, Path, int], rows: Sequence[Task], questions: Sequence[Task]
) -> World:
    family, seed, folder, base = named
    tokenizer = train_tokenizer(keep)
    folder.mkdir(parents=True, exist_ok=True)

    def encode(task: Task) -> Example:
        return Example((START, *tokenizer.encode(task.text).ids)[:LONGEST], 1)

    return World(
        family,
        seed,
        folder,
        tiny_base(keep, base),
        COURSE,
        tuple(dict.fromkeys(row.kind for row in rows)),
        tuple(Entry(row.kind, row.text) for row in rows),
        tuple(map(encode, rows)),
        tuple(question.text for question in questions),
        tuple(map(encode, questions)),
    )


def _all_scores(world: World, arms: Sequence[str]) -> Mapping[str, Scored]:
    learner = Learner(world)
    subject = Subject(learner, world.rows, learner.fit(world.rows).states)
    index = batched_index(subject, Setting())
    found = {"ours": scored(index, world.owner, len(world.contributors))}
    found |= {name: OWN[name](subject) for name in METHODS}
    for name in arms:
        try:
            found[name] = run_arm(name, subject, [entry.text for entry in world.entries], world.folder)
        except ArmFailed as failed:
            note(f"{name} is absent: {str(failed)[-300:]}")
    return found
