"""A world: a base, contributors with their rows, questions, and how an adapter is trained on rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from commonlore.worker.factory.examples import Example
from commonlore.worker.models.reference import BaseModel

from .bases import LENGTH, START, tiny_base, train_tokenizer
from .texts import JOINT, Entry, Shelf, six_shelves


@dataclass(frozen=True, slots=True)
class Course:
    """How an adapter is trained. `kept` are the epochs after which its state is kept; the last is the end.

    `packed`: as the factory trains, several examples in one sequence, the mean over tokens, gradients
    clipped; otherwise padded examples and the mean over examples.
    """

    rank: int = 8
    alpha: int = 16
    epochs: int = 4
    batch: int = 10
    rate: float = 3e-3
    warmup_steps: int = 10
    kept: tuple[int, ...] = (1, 2, 4)
    packed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything that a seed fixes. `folder` keeps what was computed in it."""

    name: str
    seed: int
    folder: Path
    base: BaseModel
    course: Course
    contributors: tuple[str, ...]
    entries: tuple[Entry, ...]
    rows: tuple[Example, ...]
    question_texts: tuple[str, ...]
    questions: tuple[Example, ...]

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """The contributor's place of every row."""
        return np.array([self.contributors.index(entry.contributor) for entry in self.entries])


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a world and of its ground truth."""

    rows: int = 40
    questions: int = 6
    halves: int = 40


def six_contributors(keep: Path, seed: int, sizes: Sizes, base: int) -> World:
    """The tiny Llama with six contributors. Seeds that share a base differ in rows, questions, start, order
    and subsets."""
    tokenizer = train_tokenizer(keep)
    shelves = six_shelves(seed, sizes.rows, sizes.questions)
    folder = keep / f"six-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return _world("six", seed, folder, (tiny_base(keep, base), Course()), shelves, tokenizer)


def _world(
    name: str,
    seed: int,
    folder: Path,
    trained: tuple[BaseModel, Course],
    shelves: Sequence[Shelf],
    tokenizer: Tokenizer,
) -> World:
    entries = tuple(Entry(shelf.contributor, text) for shelf in shelves for text in shelf.rows)
    questions = tuple(text for shelf in shelves for text in shelf.questions)
    return World(
        name,
        seed,
        folder,
        *trained,
        tuple(shelf.contributor for shelf in shelves),
        entries,
        tuple(encode_text(tokenizer, entry.text) for entry in entries),
        questions,
        tuple(encode_text(tokenizer, text) for text in questions),
    )


def encode_text(tokenizer: Tokenizer, text: str) -> Example:
    """A plain text, every token of it scored, cut to the base's length."""
    longest = 2 * LENGTH if JOINT in text else LENGTH
    return Example((START, *tokenizer.encode(text).ids)[:longest], 1)
