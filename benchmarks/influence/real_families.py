"""DataInf's families on a real base: adapters that the factory trained and the attributor scores, and other
methods on the same adapters.

A row is trained on and scored in two forms that the product has: its whole text, as the answer to nothing,
which is what DataInf's paper scores; and its answer alone, after the question. TracInCP has the states that a
training keeps: the early checkpoint and the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from commonlore.worker.attribution.flagging import margins
from commonlore.worker.factory.job import ADAPTER_FILE, EARLY_FILE, Pair, TrainConfig
from commonlore.worker.models.importing import import_base

from ..child import note
from .families import Task, draw_family, flip
from .families_part import FLIPPED, cosine_margins, flipped, same_kind
from .gradients import Gradients
from .measures import Floats, auc, first
from .methods import datainf_scores
from .peers import ArmFailed, run_by_texts
from .taught import Taught

Message = dict[str, Any]
CONFIG = TrainConfig(threads=1)
"""As `commonlore train` trains where nothing is said."""
TEXT_ARMS = ("bm25s", "embeddings")
Scores = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Family:
    """What is measured: a family by name, so many rows and questions of each kind, drawn by a seed, on a
    base."""

    name: str
    seed: int
    sizes: tuple[int, int]
    base: str

    def folder(self, keep: Path) -> Path:
        """Where its adapters are kept."""
        rows, questions = self.sizes
        return keep / f"family-{self.base}-{self.name}-{rows}-{questions}-{self.seed}"

    @property
    def projection(self) -> bytes:
        """32 bytes that nobody chose."""
        return hashlib.sha256(f"{self.name}/{self.base}/{self.seed}".encode()).digest()


WHOLE, ANSWERS, WRONG = "whole", "answers", "wrong"
LESSONS = (WHOLE, ANSWERS, WRONG)
"""What an adapter is taught: whole texts; answers; answers of which a part is another kind's."""


def measure_real_family(keep: Path, family: Family, form: str, arms: bool) -> Message:
    """By method what `_judge` says; and the loss on held-out questions before and after training."""
    rows, questions = draw_family(family.name, family.seed, *family.sizes)
    wrong, marks = flip(rows, family.seed, FLIPPED)
    pairs = [_pair(task, form) for task in (wrong if form == WRONG else rows)]
    asked = [_pair(task, form) for task in questions]
    taught = Taught(family.folder(keep) / form, import_base(family.base), (pairs, asked))
    learnt = taught.learn(CONFIG)
    kinds = [row.kind for row in rows], [question.kind for question in questions]
    scores = all_scores(taught, family, arms)
    found = {name: _judge(form, each, kinds, marks) for name, each in scores.items()}
    for name, each in near(taught, family, kinds[0]).items() if form == WRONG else ():
        found[name]["by_margin"] = auc(-each, np.array(marks))
    note(f"{family.name} {form}: {found}")
    return {
        "methods": found,
        "rows": len(rows),
        "questions": len(questions),
        "heldout_loss": [learnt.heldout_loss_before, learnt.heldout_loss_after],
    }


def _judge(form: str, scores: Floats, kinds: tuple[list[str], list[str]], marks: Sequence[bool]) -> Message:
    """AUC and recall of a question's kind, and how often that comes first; or AUC of wrong answers."""
    if form == WRONG:
        return {"flipped": flipped(scores, *kinds, marks)}
    return same_kind(scores, *kinds) | {"first": first(scores, *kinds)}


def _pair(task: Task, form: str) -> Pair:
    return Pair("", task.text) if form == WHOLE else Pair(task.question, task.answer)


def all_scores(taught: Taught, family: Family, arms: bool) -> Scores:
    """(questions, rows) of each method, positive where a row helps."""
    rows, questions = (each.astype(np.int64) for each in taught.vectors(family.projection))
    at_random = np.random.default_rng(family.seed).normal(size=(len(questions), len(rows)))
    found = {"ours": (questions @ rows.T).astype(np.float64)}
    found |= {name: _gradients(taught)[name] for name in ("dot", "tracincp", "datainf")}
    found |= {"random": at_random}
    texts = [[f"{pair.question} {pair.answer}" for pair in each] for each in (taught.rows, taught.questions)]
    for name in TEXT_ARMS if arms else ():
        try:
            found[name] = run_by_texts(name, *texts, taught.folder).scores
        except ArmFailed as failed:
            note(f"{name} is absent: {str(failed)[-300:]}")
    return found


def near(taught: Taught, family: Family, kinds: Sequence[str]) -> Scores:
    """Each row's margin, by the index and by whole gradients."""
    owners = [kind.encode() for kind in kinds]
    signs, _ = taught.vectors(family.projection)
    return {
        "ours": margins(lambda: [signs], owners),
        "dot": cosine_margins(_gradients(taught)["products"], owners),
    }


def _gradients(taught: Taught) -> Scores:
    """What whole gradients say: each method's scores, and the rows' inner products. Kept."""
    path = taught.folder / "whole.npz"
    if not path.exists():
        partly = path.with_suffix(".partial.npz")
        np.savez(partly, **_by_gradients(taught))
        partly.rename(path)
    return dict(np.load(path))


def _by_gradients(taught: Taught) -> Scores:
    middle = taught.early_step / 2, (taught.early_step + CONFIG.steps) / 2
    early, last = (CONFIG.learning_rate * (1 - each / CONFIG.steps) for each in middle)
    between = _dot(*taught.gradients(EARLY_FILE))
    rows, questions = taught.gradients(ADAPTER_FILE)
    dot = _dot(rows, questions)
    return {
        "dot": dot,
        "tracincp": early * between + last * dot,
        "datainf": datainf_scores(rows, questions).double().numpy(),
        "products": _dot(rows, rows),
    }


def _dot(rows: Gradients, questions: Gradients) -> Floats:
    """(questions, rows)."""
    found: Floats = sum(
        (questions.by_matrix[name].flatten(1) @ each.flatten(1).T).double().numpy()
        for name, each in rows.by_matrix.items()
    )
    return found
