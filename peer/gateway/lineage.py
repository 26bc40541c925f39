"""What people are told about adapters: aliases for ids, and of what others a merged adapter was made."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ...protocol.content.compositions import AdapterWeight
from ...protocol.content.manifests import AdapterManifest, Merge
from ...protocol.encoding.fields import PPM
from ...protocol.errors import CommonloreError
from ...protocol.ids import Cid
from ..asking.composition import write_weight, write_weighted
from ..attribution.measured import NO_INDEX, UNMEASURED, describe_faithfulness, faithfulness_of
from ..attribution.others_measured import others_of_index, tell_others
from ..clock import Clock
from .catalog_view import CatalogView
from .node import ContentView
from .takedowns import Takedowns
from .views import adapter_view, plain

_SHOWN = (
    *("base", "rank", "alpha", "targets", "weights", "weights_size", "datanets", "recipe", "licence"),
    *("split", "priors", "author", "author_payee", "early_checkpoint", "parents", "merge"),
)
log = logging.getLogger(__name__)


class Named(Protocol):
    """Where names and manifests are."""

    @property
    def catalog(self) -> CatalogView:
        """Names."""
        ...

    @property
    def content(self) -> ContentView:
        """Blobs."""
        ...

    @property
    def clock(self) -> Clock:
        """Time."""
        ...


class Lineage:
    """Adapters as this node knows them."""

    def __init__(self, node: Named) -> None:
        self._node = node

    def written(self, adapters: Iterable[AdapterWeight]) -> str | None:
        """Adapters with their weights as they can be typed again; None for none."""
        return write_weighted(adapters, self._alias)

    def _alias(self, adapter: Cid) -> str | None:
        record = self._node.catalog.record_of(adapter)
        return record.alias if record else None

    async def listed(self) -> list[dict[str, Any]]:
        """Every announced adapter; `merged` is told of those whose manifest is on this machine."""
        records = self._node.catalog.adapters()
        return [{**adapter_view(record), "merged": await self._at_hand(record.adapter)} for record in records]

    async def _at_hand(self, adapter: Cid) -> str | None:
        return await self.merged(adapter) if self._node.content.has(adapter) else None

    async def merges_among(self, adapters: Iterable[AdapterWeight]) -> dict[Cid, str]:
        """Of what each merged one of these adapters was made."""
        found = {entry.adapter: await self.merged(entry.adapter) for entry in adapters}
        return {adapter: words for adapter, words in found.items() if words is not None}

    async def merged(self, adapter: Cid) -> str | None:
        """Of what a merged adapter was made, in words; None for one that was trained or that nobody has."""
        try:
            manifest = await self._node.catalog.adapter(adapter)
        except CommonloreError as unknown:
            log.info("the origin of adapter %s is not known: %s", adapter, unknown)
            return None
        return self._words(manifest.merge) if manifest.merge else None

    def _words(self, merge: Merge) -> str:
        kept = f", density {write_weight(merge.density_ppm)}" if merge.density_ppm != PPM else ""
        seed = f", seed {merge.seed}" if merge.method.startswith("dare") else ""
        return f"{merge.method} of {self.written(merge.parts)}{kept}{seed}"

    async def shown(self, name: str) -> dict[str, Any]:
        """Everything about one adapter, by its alias or id. Raises NotFound, Unreachable, InvalidAdapter."""
        adapter = await self._node.catalog.patiently(partial(self._node.catalog.adapter_id, name))
        manifest = await self._node.catalog.adapter(adapter)
        record = self._node.catalog.record_of(adapter)
        announced = adapter_view(record) if record else {"alias": None, "id": adapter}
        merged = self._words(manifest.merge) if manifest.merge else None
        attribution = await self._attribution(adapter, manifest)
        others = await self._others(adapter, manifest)
        known = {"merged": merged, "attribution": attribution, "others_measured": others}
        takedowns = Takedowns(self._node.catalog, self._node.content, self._node.clock.now_ms())
        taken = await takedowns.of_adapter(adapter, manifest)
        return {**announced, **_manifest_view(manifest), **known, **taken}

    async def _attribution(self, adapter: Cid, manifest: AdapterManifest) -> str:
        """What divides the contributors' amount, and how good that is, in words."""
        record = self._node.catalog.record_of(adapter, manifest.author)
        if record is None or record.index is None:
            return NO_INDEX
        if record.faithfulness is None:
            return UNMEASURED
        try:
            found = await faithfulness_of(self._node.content, record.faithfulness, manifest)
        except CommonloreError as unknown:
            return f"measured, but what was found is not to be had now: {unknown}"
        return describe_faithfulness(found) if found.index == record.index else UNMEASURED

    async def _others(self, adapter: Cid, manifest: AdapterManifest) -> str | None:
        """What others than its author have measured, in words."""
        record, content = self._node.catalog.record_of(adapter, manifest.author), self._node.content
        if record is None or record.index is None:
            return None
        found, announced = await others_of_index(content, self._node.catalog, manifest, record.index), None
        if found and record.faithfulness is not None:
            with suppress(CommonloreError):
                announced = await faithfulness_of(content, record.faithfulness, manifest)
        return tell_others(found, announced)


def _manifest_view(manifest: AdapterManifest) -> dict[str, Any]:
    return {name: plain(getattr(manifest, name)) for name in _SHOWN}
