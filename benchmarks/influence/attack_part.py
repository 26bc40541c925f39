"""Every attack on one world: what honest people lose and what the attacker gains, method by method.

Rules of this file: only `ours` has the rule of admission, and it is applied to honest entries alone, too; the
other methods pay for whatever is committed. What is trained on follows from texts and their order.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from commonlore.worker.attribution.sketch import METHOD
from commonlore.worker.factory.job import EARLY_STEPS

from ..child import note
from .attacks import Admit, Attack, attacks, damage, victims
from .bases import LENGTH, VOCABULARY, train_tokenizer
from .batched import batched_index
from .measures import Floats, shares, sum_by_owner
from .methods import OWN, Subject
from .ours import Index, Setting, receipt_shares, scores_of
from .peers import ArmFailed, run_arm
from .sorted_part import payer_by
from .sorting import measure_sorting
from .texts import Entry
from .training import Learner
from .world import World, encode_text

OURS, UNGUARDED = "ours", "ours, no rule"
KEPT_OURS = f"{METHOD.replace('/', '-')}-of-{EARLY_STEPS}"
"""The method and its checkpoint: pay by another is another file."""
METHODS = ("dot", "tracincp", "datainf")
COMPARED = ("copy", "near-copy", "joined", "decoy", "garbage")
"""Attacks that are tried on what pays for whatever is committed: that takes a whole training each."""
FIRST = 1
"""The epoch within which the early checkpoint is taken: ours needs no more of a training."""
Message = dict[str, Any]
Tables = Mapping[str, Floats]
"""By method: (questions, contributors), what each answer pays to whom."""
Paid = dict[str, dict[str, float]]
"""By method and by the name that committed: its part of all pay."""


def measure_attacks(world: World, admit: Admit, arms: Sequence[str] | None) -> Message:
    """attack → method → damage. Without `arms` (and there may be none of them), ours only."""
    payer = _Payer(world)
    open_payer = None if arms is None else _Payer(world, METHODS, arms)
    found: Message = {}
    for attack in attacks(world.entries, world.seed, payer.noise):
        note(f"{world.name} {world.seed}: attack {attack.name}")
        found[attack.name] = _guarded(payer, attack, admit)
        if open_payer and attack.name in COMPARED:
            found[attack.name] |= _unguarded(open_payer, attack)
    return found | {"wash": _wash(payer, admit), "sorted": _sorted(payer)}


def _guarded(payer: _Payer, attack: Attack, admit: Admit) -> Message:
    kept_before, kept = admit(attack.honest), admit(attack.entries)
    guarded = asdict(damage(payer.pay(kept_before)[OURS], payer.pay(kept)[OURS]))
    dropped = Counter(each.contributor for each in attack.entries) - Counter(
        each.contributor for each in kept
    )
    return {OURS: guarded | {"dropped_rows": dict(dropped)}}


def _unguarded(payer: _Payer, attack: Attack) -> Message:
    before, after = payer.pay(attack.honest), payer.pay(attack.entries)
    damages = {name: asdict(damage(before[name], after[name])) for name in before if name in after}
    return {UNGUARDED: damages.pop(OURS)} | damages


def _wash(payer: _Payer, admit: Admit) -> Message:
    """A contributor asks for its own rows: what the others are paid for genuine questions, and which part of
    the contributors' share of its own payments comes back to it."""
    world = payer.world
    washer = victims(world.entries, world.seed)[0]
    own = [place for place, entry in enumerate(world.entries) if entry.contributor == washer]
    asked = replace(
        world,
        questions=(*world.questions, *(world.rows[place] for place in own)),
        question_texts=(*world.question_texts, *(world.entries[place].text for place in own)),
    )
    before, after = payer.pay(admit(world.entries)), payer.tables(asked, [OURS])
    genuine = len(world.questions)
    found: Message = {}
    for name, table in after.items():
        paid = _by_name(world, table[:genuine])
        hurt = damage({other: share for other, share in before[name].items() if other != washer}, paid)
        back = _by_name(world, table[genuine:])[washer]
        found[name] = asdict(replace(hurt, attacker_share=back))
    return found


def _sorted(payer: _Payer) -> Message:
    """Contributors that put their better rows on a second account: in the place of the attacker's part stands
    what the one who gains most gains."""
    index = payer.index()
    return {OURS: measure_sorting(scores_of(index), payer.world.owner, payer_by(index))}


def _by_name(world: World, table: Floats) -> dict[str, float]:
    return dict(zip(world.contributors, table.mean(0).tolist(), strict=True))


class _Payer:
    """Trains on entries and says what everybody is paid for a world's questions; each set once."""

    def __init__(self, world: World, methods: Sequence[str] = (), arms: Sequence[str] = ()) -> None:
        self.world = world
        self.methods = methods
        self.arms = arms
        self.tokenizer = train_tokenizer(world.folder.parent)

    def noise(self, rng: random.Random) -> str:
        """Random tokens."""
        return str(self.tokenizer.decode([rng.randrange(3, VOCABULARY) for _ in range(LENGTH - 1)]))

    def pay(self, entries: Sequence[Entry]) -> Paid:
        """By every method; ours is kept under KEPT_OURS, so that another is measured anew."""
        texts = json.dumps([entry.text for entry in entries]).encode()
        names = hashlib.sha256(json.dumps([entry.contributor for entry in entries]).encode()).hexdigest()[:16]
        kept = self.world.folder / ("attacks" if self.methods else "attacks-ours")
        folder = kept / hashlib.sha256(texts).hexdigest()[:16]
        own, others = folder / f"{names}.{KEPT_OURS}.json", folder / f"{names}.json"
        paid: Paid = {**_read(others), OURS: _read(own).get(OURS, {})}
        missing = [name for name in (OURS, *self.methods, *self.arms) if not paid.get(name)]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            world = replace(self._with(entries), folder=folder)
            tables = self.tables(world, missing)
            paid |= {name: _by_name(world, table) for name, table in tables.items()}
            own.write_text(json.dumps({OURS: paid[OURS]}))
            others.write_text(json.dumps({name: each for name, each in paid.items() if name != OURS}))
        return paid

    def _with(self, entries: Sequence[Entry]) -> World:
        return replace(
            self.world,
            contributors=tuple(dict.fromkeys(entry.contributor for entry in entries)),
            entries=tuple(entries),
            rows=tuple(encode_text(self.tokenizer, entry.text) for entry in entries),
        )

    def tables(self, world: World, names: Sequence[str]) -> dict[str, Floats]:
        """By these methods; an arm that cannot be run is left out."""
        subject, owners = _trained(world, None if self.methods else FIRST), len(world.contributors)
        tables: dict[str, Floats] = {}
        for name in names:
            if name == OURS:
                tables[name] = receipt_shares(batched_index(subject, Setting()), world.owner, owners)
            elif (scores := self._scores(name, subject)) is not None:
                tables[name] = shares(sum_by_owner(scores, world.owner, owners))
        return tables

    def index(self) -> Index:
        """Ours, of what honest people committed."""
        return batched_index(_trained(self.world, FIRST), Setting())

    def _scores(self, name: str, subject: Subject) -> Floats | None:
        if name in OWN:
            return OWN[name](subject).scores
        world = subject.learner.world
        try:
            return run_arm(name, subject, [entry.text for entry in world.entries], world.folder).scores
        except ArmFailed as failed:
            note(f"{name} is absent: {str(failed)[-300:]}")
            return None


def _read(path: Path) -> Paid:
    found: Paid = json.loads(path.read_text()) if path.exists() else {}
    return found


def _trained(world: World, stop: int | None = None) -> Subject:
    learner = Learner(world)
    return Subject(learner, world.rows, learner.fit(world.rows, stop=stop).states)
