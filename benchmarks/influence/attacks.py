"""Ways to be paid for other people's data, and what they do to everybody's pay.

Rules of this file:
- Entries stand in the order of their commitments. The attacker's name is ATTACKER; an honest name that was
  split over several is folded back before anything is compared.
- An attack is compared with the same honest entries in the same order and without the attacker's, so that
  another order of batches is not taken for a loss.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .texts import JOINT, Entry

ATTACKER = "attacker"
_FOREIGN_WORDS = ("item", "other", "seven", "thus", "Zeta")
_SPLIT = 5
_SALAD = 20
_MANY = 20
_REWORDED = 0.4
"""Of a row's words: more than what likeness of words finds (docs/attribution.md, "Reworded copies")."""


@dataclass(frozen=True, slots=True)
class Attack:
    """What was committed, and what honest people would have committed alone."""

    name: str
    honest: tuple[Entry, ...]
    entries: tuple[Entry, ...]


Noise = Callable[[random.Random], str]


def attacks(honest: tuple[Entry, ...], seed: int, noise: Noise) -> list[Attack]:
    """Every attack on training data. The victims change with the seed; `noise` writes a text without
    sense."""
    rng = random.Random(f"attacks/{seed}")
    first, second = victims(honest, seed)
    taken = {name: [entry.text for entry in honest if entry.contributor == name] for name in (first, second)}
    joined = [f"{a}{JOINT}{b}" for a, b in zip(taken[first], taken[second], strict=True)]
    lone = {
        "copy": taken[first],
        "near-copy": [near_copy(text, rng) for text in taken[first]],
        "joined": joined,
        "decoy": [shuffled(text, rng) for text in taken[first]],
        "garbage": [noise(rng) for _ in taken[first]],
        "salad": [salad(honest, rng) for _ in taken[first]],
    }
    words = [word for entry in honest for word in entry.text.split()]
    apart = random.Random(f"reworded/{seed}")  # the others stay what they were
    lone["reworded"] = [reworded(text, words, apart) for text in taken[first]]
    found = [Attack(name, honest, (*honest, *_by_attacker(texts))) for name, texts in lone.items()]
    for name, order in {"joined-between": (first, second), "joined-reversed": (second, first)}.items():
        found.append(_between(name, honest, order, _by_attacker(joined)))
    nearly = [f"{near_copy(a, rng)}{JOINT}{b}" for a, b in zip(taken[first], taken[second], strict=True)]
    found.append(_between("near-joined-between", honest, (first, second), _by_attacker(nearly)))
    many = tuple(Entry(f"{ATTACKER}/{i % _MANY}", noise(rng)) for i in range(len(taken[first])))
    found.append(Attack("garbage-by-many", honest, (*honest, *many)))
    split = tuple(
        Entry(f"{first}/{i % _SPLIT}", entry.text) if entry.contributor == first else entry
        for i, entry in enumerate(honest)
    )
    return [*found, Attack("split", honest, split)]


def victims(honest: Sequence[Entry], seed: int) -> tuple[str, str]:
    """Whose rows are taken."""
    names = list(dict.fromkeys(entry.contributor for entry in honest))
    return names[seed % len(names)], names[(seed + 3) % len(names)]


def honest_name(contributor: str) -> str:
    """The name before it was split."""
    return contributor.split("/", 1)[0]


def _by_attacker(texts: Sequence[str]) -> tuple[Entry, ...]:
    return tuple(Entry(ATTACKER, text) for text in texts)


def _between(name: str, honest: Sequence[Entry], order: tuple[str, str], bad: tuple[Entry, ...]) -> Attack:
    """The attacker commits after the one victim and before the other."""
    early = tuple(entry for entry in honest if entry.contributor == order[0])
    late = tuple(entry for entry in honest if entry.contributor == order[1])
    others = tuple(entry for entry in honest if entry.contributor not in order)
    return Attack(name, (*early, *others, *late), (*early, *bad, *others, *late))


# ---- what an attacker writes


def near_copy(text: str, rng: random.Random) -> str:
    """A text with two of its words replaced."""
    words = text.split()
    for place in rng.sample(range(len(words)), 2):
        words[place] = rng.choice(_FOREIGN_WORDS)
    return " ".join(words)


def reworded(text: str, others: Sequence[str], rng: random.Random) -> str:
    """A text with _REWORDED of its words replaced by other ones."""
    words = text.split()
    for place in rng.sample(range(len(words)), round(_REWORDED * len(words))):
        words[place] = rng.choice(others)
    return " ".join(words)


def shuffled(text: str, rng: random.Random) -> str:
    """A text's words in another order."""
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def salad(entries: Sequence[Entry], rng: random.Random) -> str:
    """Words of everybody's rows, any after any."""
    return " ".join(rng.choice(rng.choice(entries).text.split()) for _ in range(_SALAD))


# ---- what came of it

Admit = Callable[[Sequence[Entry]], Sequence[Entry]]
"""A rule: of what was committed, what is trained on and scored."""
Pay = Callable[[Sequence[Entry]], dict[str, float]]
"""Train on these entries; everybody's share of all pay, by the name that committed."""


@dataclass(frozen=True, slots=True)
class Damage:
    """`honest_change` is the largest change of an honest contributor's pay, `honest_loss` the largest loss,
    both as parts of what it was; `attacker_share` the attacker's part of all pay."""

    honest_change: float
    honest_loss: float
    attacker_share: float


def damage(before: dict[str, float], after: dict[str, float]) -> Damage:
    """From everybody's share without the attack and under it."""
    folded: dict[str, float] = {}
    for name, share in after.items():
        folded[honest_name(name)] = folded.get(honest_name(name), 0.0) + share
    taken = folded.pop(ATTACKER, 0.0)
    changes = [folded.get(name, 0.0) / share - 1 for name, share in before.items() if share > 0]
    return Damage(max(map(abs, changes)), max(0.0, -min(changes)), taken)
