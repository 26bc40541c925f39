"""A packaged corpus as orders to a node: identities for its contributors, a Datanet to publish, pairs to
measure with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ...protocol.ids import Address
from ..identity.keystore import Keystore
from .corpora import Corpus, HeldOut

KIND = "questions"


class Example(Protocol):
    """A question with its answer."""

    @property
    def question(self) -> str:
        """What is asked."""
        ...

    @property
    def answer(self) -> str:
        """What a good answer says."""
        ...


def contributors_of(source: Corpus, keystore: Keystore) -> Mapping[str, Address]:
    """The payees of a corpus's contributors by name; identities that are missing are made."""
    known = {identity.name: identity.payee for identity in keystore.identities()}
    return {
        name: known[name] if name in known else keystore.create(name).payee.address
        for name in source.contributors
    }


def publication_of(source: Corpus) -> dict[str, Any]:
    """The order that publishes a corpus: every contributor's rows, and the notice with each."""
    travels = {"licence": source.licence, "origin": source.origin, "notice": source.notice}
    contributions = [
        {"contributor": name, "rows": pairs_of(rows), **travels} for name, rows in source.contributors.items()
    ]
    described = {"name": source.name, "purpose": source.purpose, "kind": KIND, "licence": source.licence}
    return {**described, "contributions": contributions}


def pairs_of(examples: Iterable[Example]) -> list[dict[str, str]]:
    """Examples as an order's rows."""
    return [{"question": each.question, "answer": each.answer} for each in examples]


def measured(source: Corpus, count: int) -> tuple[HeldOut, ...]:
    """At most `count` held-out pairs, from all contributors evenly."""
    step = max(1, len(source.heldout) // count)
    return source.heldout[::step][:count]
