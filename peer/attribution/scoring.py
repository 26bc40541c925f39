"""Scores of answers on this machine: what an adapter needs is fetched once, and a score becomes a sealed
statement.

Rules of this file: the index that counts is the one that the adapter's author announced, if its projection is
the one that the adapter's registration drew, its rows are those that the manifest plans, and its sums those
of its rows: an author that chose any of them is not scored by it, and its contributors have the priors.
Neither is anybody scored by an index that was shown wrong on the chain, or that is not what was committed
there. Some of its rows are computed again before the first score (`row_checks`): by an index with one that is
wrong nothing is scored, and statements challenge it. The query vector is kept where whoever checks the
statement finds it, by its digest.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from ...protocol.attribution.faithfulness import CHALLENGED_METHOD, coarse_method
from ...protocol.attribution.indexing import check_beacon
from ...protocol.attribution.scoring import PRIOR_METHOD, prior_weights
from ...protocol.content.manifests import AdapterManifest, IndexManifest
from ...protocol.errors import NotFound, Unreachable
from ...protocol.ids import Cid
from ...protocol.receipts.channels import combine_channels, payable
from ...protocol.receipts.records import AttributionStatement, Effects
from ...protocol.receipts.seconding import DrawnSecond
from ...protocol.requests.records import Prompt
from ...protocol.signing.envelope import Sealed, open_sealed, seal
from ...worker.attribution.ablation import measured_effects
from ...worker.attribution.process import AttributionProcess
from ...worker.attribution.subject import subject_of
from ..datanets.shards import PulledDatanet
from ..node import Node
from ..settling.beacons import registered_beacon
from ..settling.committed_indexes import IndexStanding, standing_of
from ..store.records import MAX_STATEMENT_BYTES
from .index_committed import require_committed
from .index_evidence import curvature_of, early_of, index_of, sums_path
from .index_rows import require_whole
from .measured import faithfulness_of
from .row_checks import NamedIndex, RowChecks

MAX_KNOWN = 32
"""Adapters that the scoring process holds: each costs it memory. Of others the longest unused gives way."""


@dataclass(frozen=True, slots=True)
class Scorable:
    """An answer to be scored by one of its adapters, alone on the base: the receipt it was paid by, and what
    was said. `output` is all of it, with the tokens ahead of this receipt's."""

    adapter: Cid
    receipt_hash: bytes
    prompt: Prompt
    output: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Known:
    """`method` as statements name it; `coarse` the method that the priors go by, where scores may not divide:
    measured and not above chance, or not measured, or a row of the index was `challenged`."""

    index: Cid
    faithfulness: Cid | None
    method: str
    coarse: str | None
    challenged: int | None


class Scoring:
    """One scoring process and the adapters that it knows."""

    def __init__(self, node: Node, scorer: AttributionProcess) -> None:
        self._node = node
        self._scorer = scorer
        self._rows = RowChecks(node, scorer)
        self._known: OrderedDict[Cid, _Known] = OrderedDict()
        self._turn = trio.Lock()

    async def state(self, answer: Scorable, drawn: DrawnSecond | None = None) -> Sealed[AttributionStatement]:
        """Score an answer and seal what was found; `drawn` says how a second attributor came to be asked.

        Raises NotFound where its adapter has no index, Unreachable, RemoteProtocolError, InvalidAdapter,
        AttributionFailed.
        """
        adapter = answer.adapter
        manifest = await self._node.catalog.adapter(adapter)
        async with self._turn:
            known = await self._make_known(adapter, manifest)
            score = await self._scorer.score(adapter, answer.prompt.messages, answer.output)
            effects = await self._effects(adapter, answer)
        if known.coarse is not None:
            method, weights = known.coarse, prior_weights(manifest)
        elif score.weights is None:
            method, weights = PRIOR_METHOD, prior_weights(manifest)
        else:
            method, weights = known.method, score.weights
        weights = combine_channels(weights, payable(effects, {prior.payee for prior in manifest.priors}))
        await self._node.content.put(score.query)
        query = hashlib.sha256(score.query).digest()
        statement = AttributionStatement(
            answer.receipt_hash,
            adapter,
            known.index,
            method,
            query,
            weights,
            effects,
            drawn,
            known.faithfulness,
            known.challenged,
        )
        raw = seal(self._node.keys.peer, statement, MAX_STATEMENT_BYTES)
        return open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES)

    async def _effects(self, adapter: Cid, answer: Scorable) -> Effects | None:
        """What the parts of the prompt did, by leaving them out; None where it has none."""
        prompt, seed = answer.prompt, answer.receipt_hash
        if not prompt.parts:
            return None
        losses = await self._scorer.losses(adapter, prompt, seed, answer.output)
        return measured_effects(prompt, seed, losses)

    def challenged(self, adapter: Cid, index: Cid | None) -> int | None:
        """The row for which this attributor scores nothing by an index, as far as it has found one."""
        known = self._known.get(adapter)
        return known.challenged if known is not None and known.index == index else None

    async def doubt(self, adapter: Cid, position: int) -> bool:
        """Somebody says that a row of an adapter's index is not its row's gradient: whether the index is
        challenged here, after that row was computed. Raises as `state`.
        """
        manifest = await self._node.catalog.adapter(adapter)
        async with self._turn:
            known = await self._make_known(adapter, manifest)
            if known.coarse is not None:
                return known.challenged is not None
            index = (await index_of(self._node.content, known.index, manifest)).record
            found = NamedIndex(known.index, index, await self._require_drawn(manifest, index))
            if not await self._rows.is_challenged(found, position):
                return False
            self._known[adapter] = replace(known, coarse=CHALLENGED_METHOD, challenged=position)
        return True

    async def _require_drawn(self, manifest: AdapterManifest, index: IndexManifest) -> list[PulledDatanet]:
        """The Datanets that an index's rows are of. Raises RemoteProtocolError unless neither its projection
        nor its rows were chosen, NotFound, Unreachable or ChainError where that cannot be told."""
        node = self._node
        check_beacon(index, await registered_beacon(node.domain, node.chain.client, manifest))
        return await require_whole(node.content, node.catalog, node.domain, manifest, index)

    async def _standing(self, manifest: AdapterManifest, index: Cid) -> IndexStanding | None:
        """What its author committed of an index. Raises RemoteProtocolError where it was shown wrong,
        NotFound, Unreachable or ChainError where that cannot be told."""
        standing = await standing_of(self._node.domain, self._node.chain.client, manifest, index)
        if standing is not None:
            standing.require()
        return standing

    async def _make_known(self, adapter: Cid, manifest: AdapterManifest) -> _Known:
        """Fetch what scoring needs, early checkpoint, factors and index, once. Raises NotFound."""
        record = self._node.catalog.record_of(adapter, manifest.author)
        if record is None or record.index is None or manifest.early_checkpoint is None:
            raise NotFound(f"adapter {adapter} has no gradient index; prior weights apply")
        known, content = self._known.get(adapter), self._node.content
        if known is not None and (known.index, known.faithfulness) == (record.index, record.faithfulness):
            with suppress(Unreachable):  # what stood before goes on while the chain is away
                await self._standing(manifest, record.index)
            self._known.move_to_end(adapter)
            return known
        standing = await self._standing(manifest, record.index)
        index = (await index_of(content, record.index, manifest)).record
        datanets = await self._require_drawn(manifest, index)
        await require_committed(content, index, standing)
        early, curvature = await early_of(content, manifest), await curvature_of(content, manifest)
        await self._scorer.load(subject_of(manifest, early, curvature, index.beacon))
        await self._scorer.use_index(index, await sums_path(content, index))
        found = None
        if record.faithfulness is not None:
            found = await faithfulness_of(content, record.faithfulness, manifest)
        coarse, challenged = coarse_method(found, record.index), None
        if coarse is None:
            challenged = await self._rows.challenged(NamedIndex(record.index, index, datanets))
            coarse = None if challenged is None else CHALLENGED_METHOD
        known = _Known(record.index, record.faithfulness, index.method, coarse, challenged)
        self._known[adapter] = known
        while len(self._known) > MAX_KNOWN:
            await self._scorer.forget(self._known.popitem(last=False)[0])
        return known
