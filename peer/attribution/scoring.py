"""Scores of answers on this machine: what an adapter needs is fetched once, and a score becomes a sealed
statement.

Rules of this file: the index that counts is the one that the adapter's author announced, if its projection is
the one that the adapter's registration drew, its rows are those that the manifest plans, and its sums those
of its rows: an author that chose any of them is not scored by it, and its contributors have the priors.
Neither is anybody scored by an index that was shown wrong on the chain, or that is not what was committed
there. Some of its rows are computed again before the first score (`row_checks`): by an index with one that is
wrong nothing is scored, and statements challenge it. The query vector is kept where whoever checks the
statement finds it, by its digest. Whatever comes from others is fetched before an answer's turn
(`scored_by`): one adapter whose files do not come keeps no other's answers from being scored.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import trio

from ...protocol.attribution.faithfulness import CHALLENGED_METHOD
from ...protocol.attribution.scoring import PRIOR_METHOD, prior_weights
from ...protocol.content.manifests import AdapterManifest
from ...protocol.errors import CommonloreError, NotFound, Unreachable
from ...protocol.gossip.adverts import AdapterRecord
from ...protocol.ids import Cid
from ...protocol.receipts.channels import combine_channels, payable
from ...protocol.receipts.records import AttributionStatement, Effects
from ...protocol.receipts.seconding import DrawnSecond
from ...protocol.requests.records import Prompt
from ...protocol.signing.envelope import Sealed, open_sealed, seal
from ...worker.attribution.ablation import measured_effects
from ...worker.attribution.process import AttributionProcess
from ..keyed_lock import KeyedLock
from ..node import Node
from ..store.records import MAX_STATEMENT_BYTES
from .index_evidence import index_of
from .index_rows import pull_all
from .row_checks import NamedIndex, RowChecks
from .scored_by import ScoredBy, announced_index, fetch_scored_by, require_standing

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
        self._fetching = KeyedLock[Cid]()

    async def state(self, answer: Scorable, drawn: DrawnSecond | None = None) -> Sealed[AttributionStatement]:
        """Score an answer and seal what was found; `drawn` says how a second attributor came to be asked.

        Raises NotFound where its adapter has no index, Unreachable, RemoteProtocolError, InvalidAdapter,
        AttributionFailed.
        """
        adapter = answer.adapter
        manifest = await self._node.catalog.adapter(adapter)
        async with self._used(adapter, manifest) as known:
            try:
                score = await self._scorer.score(adapter, answer.prompt.messages, answer.output)
            except NotFound:  # the process was started anew and could not read its files again
                self._known.pop(adapter, None)
                raise
            effects = await self._effects(adapter, answer)
        if known.coarse is not None:
            method, weights = known.coarse, prior_weights(manifest)
        elif score.weights is None:
            method, weights = PRIOR_METHOD, prior_weights(manifest)
        else:
            method, weights = known.method, score.weights
        weights = combine_channels(weights, payable(effects, {prior.payee for prior in manifest.priors}))
        content = self._node.content  # anybody may ask for a second score: its vectors must not fill the disk
        await (content.put if drawn is None else content.hold)(score.query)
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
        async with self._used(adapter, manifest) as known:
            if known.coarse is not None:
                return known.challenged is not None
            index = (await index_of(self._node.content, known.index, manifest)).record
            node = self._node  # that the index holds its rows was found before, and costs more than a row
            datanets = await pull_all(node.content, node.catalog, node.domain, manifest)
            found = NamedIndex(known.index, index, datanets)
            if not await self._rows.is_challenged(found, position):
                return False
            self._known[adapter] = replace(known, coarse=CHALLENGED_METHOD, challenged=position)
        return True

    @asynccontextmanager
    async def _used(self, adapter: Cid, manifest: AdapterManifest) -> AsyncIterator[_Known]:
        """The scoring process's turn for an adapter. What has to be fetched for it comes first, while others
        have theirs. Raises NotFound where there is no index, and what fetching raises."""
        async with self._fetching.hold(adapter):
            record = self._node.catalog.record_of(adapter, manifest.author)
            if record is None or record.index is None or manifest.early_checkpoint is None:
                raise NotFound(f"adapter {adapter} has no gradient index; prior weights apply")
            fetched = None
            if self._is_known(record):
                with suppress(Unreachable):  # what stood before goes on while the chain is away
                    await require_standing(self._node, manifest, record.index)
            else:
                fetched = await fetch_scored_by(self._node, manifest, record)
            async with self._turn:
                if fetched is not None:
                    await self._make_known(record, fetched)
                elif not self._is_known(record):  # it gave way to others meanwhile
                    await self._make_known(record, await fetch_scored_by(self._node, manifest, record))
                self._known.move_to_end(adapter)
                yield self._known[adapter]

    def _is_known(self, record: AdapterRecord) -> bool:
        known = self._known.get(record.adapter)
        named = record.index, record.faithfulness
        return known is not None and (known.index, known.faithfulness) == named

    async def _make_known(self, record: AdapterRecord, fetched: ScoredBy) -> None:
        """Have the process hold an adapter; one that cannot be used is not held."""
        adapter, index = record.adapter, announced_index(record)
        try:
            await self._scorer.load(fetched.subject)
            await self._scorer.use_index(fetched.index, fetched.sums)
            coarse, challenged = fetched.coarse, None
            if coarse is None:
                challenged = await self._rows.challenged(NamedIndex(index, fetched.index, fetched.datanets))
                coarse = None if challenged is None else CHALLENGED_METHOD
        except CommonloreError:
            self._known.pop(adapter, None)
            with suppress(CommonloreError):
                await self._scorer.forget(adapter)
            raise
        method = fetched.index.method
        self._known[adapter] = _Known(index, record.faithfulness, method, coarse, challenged)
        while len(self._known) > MAX_KNOWN:
            await self._scorer.forget(self._known.popitem(last=False)[0])
