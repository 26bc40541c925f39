"""A real base and real Datanets: SmolLM2-135M with ICD-10-CM or CWE, three contributors, and few retrainings,
because each costs a minute.
"""

from __future__ import annotations

from pathlib import Path

from commonlore.peer.datanets.corpora import corpus
from commonlore.worker.factory.examples import Encoder
from commonlore.worker.factory.job import Pair
from commonlore.worker.models.importing import import_base

from .texts import Entry
from .world import Course, Sizes, World

COURSE = Course(epochs=3, batch=8, rate=6e-3, warmup_steps=3, kept=(1, 3), packed=True)
SIZES = Sizes(rows=12, questions=3, halves=12)
MORE = Sizes(rows=24, questions=6, halves=0)
"""Twice the rows, whose pay alone is measured: halves of them would take an hour."""


def starter_world(
    keep: Path, seed: int, base: str = "starter", sizes: Sizes = SIZES, name: str = "icd10"
) -> World:
    """The starter base with three contributors to the Datanet of this name; a question asks what some row has
    taught.
    """
    datanet = corpus(name, seed)
    model = import_base(base)
    encoder = Encoder(model)
    given = {each: rows[: sizes.rows] for each, rows in datanet.contributors.items()}
    taught = {row.answer for rows in given.values() for row in rows}
    asked = [
        question
        for contributor in given
        for question in [
            each for each in datanet.heldout if each.contributor == contributor and each.answer in taught
        ][: sizes.questions]
    ]
    pairs = [Pair(row.question, row.answer) for rows in given.values() for row in rows]
    folder = keep / f"starter-{base}-{name}-{sizes.rows}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return World(
        name=f"starter-{base}",
        seed=seed,
        folder=folder,
        base=model,
        course=COURSE,
        contributors=tuple(given),
        entries=tuple(
            Entry(contributor, f"{row.question} {row.answer}")
            for contributor, rows in given.items()
            for row in rows
        ),
        rows=tuple(encoder.pair(pair) for pair in pairs),
        question_texts=tuple(f"{each.question} {each.answer}" for each in asked),
        questions=tuple(encoder.pair(Pair(each.question, each.answer)) for each in asked),
    )
