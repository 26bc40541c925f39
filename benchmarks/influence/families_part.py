"""DataInf's families: does a method find rows of a question's kind, and rows with a wrong answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from commonlore.worker.attribution.flagging import margins
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
    """By method: `same_kind` AUC, `recall` of a kind's rows among as many best, AUC of `flipped` rows by
    their influence, and, of a few, `by_margin`: by what flags go by, with gradients of answers alone."""
    family, seed = named
    rows, questions = draw_family(family, seed, *sizes)
    wrong, marks = flip(rows, seed, FLIPPED)
    found: dict[str, Message] = {}
    for clean, given in ((True, rows), (False, wrong)):
        folder = keep / f"family-{family}-{seed}" / ("clean" if clean else "flipped")
        world = _world(keep, (family, seed, folder, base), given, questions)
        kinds = [row.kind for row in given], [question.kind for question in questions]
        learner = Learner(world)
        subject = Subject(learner, world.rows, learner.fit(world.rows).states)
        for name, each in _all_scores(subject, arms).items():
            said = (
                same_kind(each.scores, *kinds) if clean else {"flipped": flipped(each.scores, *kinds, marks)}
            )
            found.setdefault(name, {}).update(said)
            note(f"{family} {seed}: {name}: {said}")
        if not clean:
            for name, each in answer_margins(subject, keep, (given, questions)).items():
                found[name]["by_margin"] = auc(-each, np.array(marks))
                note(f"{family} {seed}: {name}, by margin: {found[name]['by_margin']:.3f}")
    return found


def answer_margins(
    subject: Subject, keep: Path, tasks: tuple[Sequence[Task], Sequence[Task]]
) -> Mapping[str, Floats]:
    """Each row's margin (worker/attribution/flagging.py) by its answer's gradient, under ours and under the
    plain gradient of the finished adapter."""
    tokenizer, world = train_tokenizer(keep), subject.learner.world
    rows, questions = (tuple(_answer(tokenizer, task) for task in each) for each in tasks)
    answers = replace(world, rows=rows, questions=questions)
    alone = Subject(Learner(answers), rows, subject.states)
    owners = [entry.contributor.encode() for entry in world.entries]
    signs = batched_index(alone, Setting()).rows
    gradients = alone.sides(alone.last).rows.flat().double().numpy()
    return {"ours": margins(lambda: [signs], owners), "dot": cosine_margins(gradients @ gradients.T, owners)}


def cosine_margins(products: Floats, owners: Sequence[bytes]) -> Floats:
    """The same of vectors that are no signs, by cosine, from their inner products."""
    lengths = np.sqrt(np.diag(products))
    near, names = products / np.outer(lengths, lengths), sorted(set(owners))
    np.fill_diagonal(near, 0.0)
    owner = np.array([names.index(each) for each in owners])
    means = np.stack([near[:, owner == each].sum(1) / (owner == each).sum() for each in range(len(names))], 1)
    rows, counts = np.arange(len(owner)), np.bincount(owner)[owner]
    own = means[rows, owner] * counts / (counts - 1)
    means[rows, owner] = -np.inf
    found: Floats = own - means.max(1)
    return found


def _answer(tokenizer: Tokenizer, task: Task) -> Example:
    """A task of which the answer alone is scored: from where its tokens part from the question's."""
    whole = (START, *tokenizer.encode(task.text).ids)[:LONGEST]
    asked = (START, *tokenizer.encode(f"{task.question} ->").ids)
    pairs = enumerate(zip(whole, asked, strict=False))
    shared = next((place for place, (a, b) in pairs if a != b), len(asked))
    return Example(whole, max(1, min(shared, len(whole) - 1)))


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


def _all_scores(subject: Subject, arms: Sequence[str]) -> Mapping[str, Scored]:
    world = subject.learner.world
    index = batched_index(subject, Setting())
    found = {"ours": scored(index, world.owner, len(world.contributors))}
    found |= {name: OWN[name](subject) for name in METHODS}
    for name in arms:
        try:
            found[name] = run_arm(name, subject, [entry.text for entry in world.entries], world.folder)
        except ArmFailed as failed:
            note(f"{name} is absent: {str(failed)[-300:]}")
    return found
