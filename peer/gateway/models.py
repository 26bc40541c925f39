"""Names of models: what `/v1/models` lists and what a `model` field may say.

A model is an adapter (`owner/name`, or its id, announced or not) or a base (its name, or its id);
`base:adapter` is an adapter whose base is checked. Several adapters answer together as
`owner/a=0.7+owner/b=0.3`, in equal parts as `owner/a+owner/b` (see `peer.composition`). A base's name is
what its workers call it; where they do not, its id stands for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn

from ...protocol.encoding.fields import PPM
from ...protocol.errors import ConfigError, RemoteProtocolError
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Cid, parse_cid
from ..asking.composition import Weighted, is_composition, read_composition
from .errors import InvalidRequest, UnknownModel
from .node import GatewayNode

MAX_MODEL = 2_048
"""Bytes of a `model` field: eight adapters by name, with weights."""


@dataclass(frozen=True, slots=True)
class Target:
    """What answers: adapters as AskOptions takes them, and the base where there is none."""

    adapters: tuple[tuple[str, int], ...] = ()
    base: Cid | None = None


class Models:
    """The models that this node knows at the moment."""

    def __init__(self, node: GatewayNode) -> None:
        self._node = node

    async def listed(self) -> list[dict[str, Any]]:
        """Every model as OpenAI describes one, bases first; `available` says whether a worker serves its
        base.
        """
        served, names = self._served(), self._base_names()
        records = self._node.catalog.adapters()
        bases = [_base_entry(name, base, served[base]) for name, base in names.items() if base in served]
        return bases + [_adapter_entry(record, record.base in served) for record in records]

    async def described(self, model: str) -> dict[str, Any]:
        """One model. Raises UnknownModel."""
        target = await self.resolve(model)
        if len(target.adapters) > 1:
            return _composition_entry(model, target.adapters)
        wanted = target.adapters[0][0] if target.adapters else target.base
        for entry in await self.listed():
            if entry["commonlore"]["id"] == wanted:
                return {**entry, "id": model}
        raise UnknownModel(f"{model!r} is an id that nobody has announced; it can only be asked")

    async def resolve(self, model: str) -> Target:
        """What a `model` field names.

        Raises UnknownModel, telling what is known, and InvalidRequest where adapters cannot answer together.
        """
        return await self._node.catalog.patiently(lambda: self._resolved(model))

    def _resolved(self, model: str) -> Target:
        target = self._named(model)
        if target is None and is_composition(model):
            try:
                return self._composed(read_composition((model,)))
            except ConfigError as wrong:
                raise InvalidRequest(str(wrong), "model") from None
        return target or self._unknown(model)

    async def compose(self, weighted: Weighted) -> Target:
        """Adapters that answer together, by their ids; their base is whichever their manifests agree on.

        Raises as `resolve`.
        """
        return await self._node.catalog.patiently(lambda: self._composed(weighted))

    def _composed(self, weighted: Weighted) -> Target:
        ids: list[tuple[str, int]] = []
        for name, ppm in weighted:
            target = self._named(name) or self._unknown(name)
            if not target.adapters:
                raise InvalidRequest(f"{name[:200]!r} is a base; only adapters answer together", "model")
            ids.append((target.adapters[0][0], ppm))
        return Target(tuple(ids), target.base if len(ids) == 1 else None)

    def _named(self, model: str) -> Target | None:
        """The adapter or base of this one name or id."""
        if (record := self._adapter(model)) is not None:
            return _target(record)
        if (base := self._base(model)) is not None:
            return Target(base=base)
        head, colon, tail = model.partition(":")
        record = self._adapter(tail) if colon else None
        if record is not None and self._base(head) == record.base:
            return _target(record)
        return Target(((model, PPM),)) if _is_cid(model) else None

    def _unknown(self, model: str) -> NoReturn:
        known = [*self._base_names(), *(record.alias for record in self._node.catalog.adapters())]
        shown = ", ".join(known[:8]) or "none yet: no worker is known to this node"
        raise UnknownModel(f"unknown model {model[:200]!r}; known: {shown}")

    def _base(self, name: str) -> Cid | None:
        """The served base of this id or name."""
        by_id = next((base for base in self._served() if base == name), None)
        return by_id or self._base_names().get(name)

    def _adapter(self, name: str) -> AdapterRecord | None:
        records = self._node.catalog.adapters()
        return next((record for record in records if name in (record.alias, record.adapter)), None)

    def _served(self) -> dict[Cid, int]:
        """Bases with a live worker, and since when one is known (Unix seconds)."""
        served: dict[Cid, int] = {}
        for offer in self._node.asker.offers():
            since = offer.ad.issued_ms // 1000
            served[offer.ad.base] = min(since, served.get(offer.ad.base, since))
        return served

    def _base_names(self) -> dict[str, Cid]:
        """Served bases by the name that most of their workers give them; a name that two of them have is
        that one's with more workers."""
        called: dict[Cid, Counter[str]] = {}
        for offer in self._node.asker.offers():
            called.setdefault(offer.ad.base, Counter())[offer.ad.base_name or ""] += 1
        names: dict[str, Cid] = {}
        for base, said in sorted(called.items(), key=lambda each: (-each[1].total(), each[0])):
            name = max(sorted(said), key=said.__getitem__) or base
            names[base if name in names else name] = base
        return names


def _target(record: AdapterRecord) -> Target:
    return Target(((record.adapter, PPM),), record.base)


def _is_cid(text: str) -> bool:
    try:
        parse_cid(text)
    except RemoteProtocolError:
        return False
    return True


def _base_entry(name: str, base: Cid, since: int) -> dict[str, Any]:
    facts = {"kind": "base", "id": base, "base": base, "available": True}
    return _entry(name, since, "commonlore", facts)


def _adapter_entry(record: AdapterRecord, available: bool) -> dict[str, Any]:
    owner = record.alias.partition("/")[0]
    facts = {"kind": "adapter", "id": record.adapter, "base": record.base, "available": available}
    return _entry(record.alias, record.issued_ms // 1000, owner, facts)


def _composition_entry(name: str, adapters: Weighted) -> dict[str, Any]:
    parts = [{"adapter": adapter, "weight_ppm": ppm} for adapter, ppm in adapters]
    return _entry(name, 0, "commonlore", {"kind": "composition", "adapters": parts})


def _entry(name: str, created: int, owner: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "commonlore": facts}
