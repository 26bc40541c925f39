"""The task families of DataInf (Kwon et al., "DataInf", 2024, appendix), generated anew: ten kinds of
sentence transformation, and ten kinds of word problem with and without the reason for the answer.

A method is asked whether a row is of the same kind as a held-out question, and which rows were given the
answer of another kind. As there, the whole text is scored, not only its answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_NAMES = ("Ana", "Bo", "Cem", "Dara", "Eli", "Fay", "Gus", "Hana")
_SUBJECTS = ("the cat", "a baker", "our judge", "the pilot", "my nurse", "the clerk", "a goat", "the robot")
_VERBS = ("paints", "finds", "carries", "sees", "hides", "wants", "opens", "sells")
_OBJECTS = ("a red door", "the old map", "some bread", "her blue hat", "two coins", "the last box")
_VOWELS = "aeiouAEIOU"


@dataclass(frozen=True, slots=True)
class Task:
    """One example: its kind, what is asked, and the answer."""

    kind: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        """As the model reads it."""
        return f"{self.question} -> {self.answer}"


# ---- sentences

Rewrite = Callable[[str], str]
SENTENCES: Mapping[str, Rewrite] = {
    "Reverse the order of the words": lambda text: " ".join(reversed(text.split())),
    "Put every other letter in capitals": lambda text: "".join(
        letter.upper() if place % 2 else letter for place, letter in enumerate(text)
    ),
    "Insert 1 between the words": lambda text: " 1 ".join(text.split()),
    "Replace the vowels with stars": lambda text: "".join("*" if c in _VOWELS else c for c in text),
    "Double every consonant": lambda text: "".join(
        c * 2 if c.isalpha() and c not in _VOWELS else c for c in text
    ),
    "Begin every word with a capital": lambda text: " ".join(word.capitalize() for word in text.split()),
    "Leave out the vowels": lambda text: "".join(c for c in text if c not in _VOWELS),
    "Add ly to every word": lambda text: " ".join(f"{word}ly" for word in text.split()),
    "Leave out the consonants": lambda text: "".join(c for c in text if c in _VOWELS or c == " "),
    "Say every word twice": lambda text: " ".join(f"{word} {word}" for word in text.split()),
}


def _sentence(kind: str, rng: random.Random) -> Task:
    text = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)}"
    return Task(kind, f"{kind}: {text}", SENTENCES[kind](text))


# ---- word problems

Problem = Callable[[int, int, str], tuple[str, str, int]]
"""From two numbers and a name: the question, the reason, the answer."""
PROBLEMS: Mapping[str, Problem] = {
    "slices": lambda a, b, who: (
        f"A pie has {a + b} slices and {who} eats {a}. How many slices are left?",
        f"{a + b} minus {a}",
        b,
    ),
    "buses": lambda a, b, who: (
        f"{a * b} pupils go with {who}, {b} on each bus. How many buses are needed?",
        f"{a * b} divided by {b}",
        a,
    ),
    "savings": lambda a, b, who: (
        f"{who} saves {a} coins a week. How much is that after {b} weeks?",
        f"{a} times {b}",
        a * b,
    ),
    "ages": lambda a, b, who: (
        f"{who} is {a} years old. How old will {who} be in {b} years?",
        f"{a} plus {b}",
        a + b,
    ),
    "fence": lambda a, b, who: (
        f"{who} fences a field of {a} by {b} metres. How long is the fence?",
        f"twice {a} plus twice {b}",
        2 * (a + b),
    ),
    "floor": lambda a, b, who: (
        f"{who} tiles a floor {a} feet long and {b} feet wide. What is its area?",
        f"{a} feet times {b} feet",
        a * b,
    ),
    "speed": lambda a, b, who: (
        f"{who} drives {a * b} miles in {b} hours. How fast is the car?",
        f"{a * b} miles over {b} hours",
        a,
    ),
    "change": lambda a, b, who: (
        f"{who} pays a bill of {a} dollars with {a + b} dollars. What change is due?",
        f"{a + b} dollars less {a} dollars",
        b,
    ),
    "eggs": lambda a, b, who: (
        f"{who} has {a} hens that lay {b} eggs each and sells half. How many eggs are sold?",
        f"half of {a} times {b}",
        a * b // 2,
    ),
    "pages": lambda a, b, who: (
        f"A book has {a + 2 * b} pages; {who} reads {b} pages on each of two days. How many pages remain?",
        f"{a + 2 * b} minus twice {b}",
        a,
    ),
}


def _problem(kind: str, rng: random.Random, reasoned: bool) -> Task:
    question, reason, answer = PROBLEMS[kind](rng.randint(2, 40), rng.randint(2, 20), rng.choice(_NAMES))
    return Task(kind, question, f"{reason} is {answer}. {answer}" if reasoned else str(answer))


FAMILIES: Mapping[str, tuple[tuple[str, ...], Callable[[str, random.Random], Task]]] = {
    "sentences": (tuple(SENTENCES), _sentence),
    "math": (tuple(PROBLEMS), lambda kind, rng: _problem(kind, rng, False)),
    "math-reason": (tuple(PROBLEMS), lambda kind, rng: _problem(kind, rng, True)),
}


def draw_family(family: str, seed: int, rows: int, questions: int) -> tuple[list[Task], list[Task]]:
    """(rows, held-out questions) of each kind, all different, kind by kind."""
    kinds, draw = FAMILIES[family]
    taught: list[Task] = []
    asked: list[Task] = []
    for kind in kinds:
        rng = random.Random(f"{family}/{kind}/{seed}")
        found: dict[str, Task] = {}
        while len(found) < rows + questions:
            task = draw(kind, rng)
            found[task.question] = task
        taught += list(found.values())[:rows]
        asked += list(found.values())[rows:]
    return taught, asked


def flip(rows: list[Task], seed: int, part: float) -> tuple[list[Task], list[bool]]:
    """The same rows, some of them with the answer of a row of another kind; and which those are."""
    rng = random.Random(f"flip/{seed}")
    marked = set(rng.sample(range(len(rows)), round(part * len(rows))))
    flipped = []
    for place, row in enumerate(rows):
        other = rng.choice([each for each in rows if each.kind != row.kind])
        flipped.append(Task(row.kind, row.question, other.answer) if place in marked else row)
    return flipped, [place in marked for place in range(len(rows))]
