"""Attributors who look before they score: an index with a forged row pays nobody by scores. With a real
attribution process, and rows forged in an index that is otherwise in order."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from commonlore.peer.attribution import row_checks, scored_by
from commonlore.peer.attribution.evidence import Evidence
from commonlore.peer.attribution.index_rows import committed_rows
from commonlore.peer.attribution.row_checks import FOUND, SECRET
from commonlore.peer.attribution.scoring import Scorable, Scoring
from commonlore.peer.attribution.second_evidence import SecondEvidence
from commonlore.peer.attribution.second_opinions import SecondOpinions
from commonlore.peer.attribution.verifying import verify_integers, verify_query
from commonlore.peer.chain import OFFLINE
from commonlore.peer.settling.committed_indexes import IndexStanding
from commonlore.protocol.attribution.faithfulness import CHALLENGED_METHOD
from commonlore.protocol.attribution.index_trees import PublishedIndex, build_index_trees
from commonlore.protocol.attribution.pools import Basis
from commonlore.protocol.attribution.scoring import prior_weights
from commonlore.protocol.attribution.written_rows import read_rows
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import IndexManifest
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.gossip.adverts import AdapterRecord
from commonlore.protocol.ids import Cid, cid_of, keccak256
from commonlore.protocol.receipts.records import AttributionStatement
from commonlore.protocol.signing.envelope import Sealed, open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey
from commonlore.worker.attribution.index import OwnedRow, build_index
from commonlore.worker.attribution.process import (
    AttributionConfig,
    AttributionProcess,
    _expect,
    open_attribution,
)
from commonlore.worker.attribution.serve import Server
from commonlore.worker.attribution.subject import subject_of
from commonlore.worker.models.reference import load_base

SIZE = 1 << 28
AUTHOR = PeerKey.generate(keccak256(b"author"))
KEYS = {name: PeerKey.generate(keccak256(name.encode())) for name in ("worker", "second")}
Made = tuple[Evidence, Path]
Stated = Sealed[AttributionStatement]


class Kept:
    """Named values, as a node's store has them: they outlive a node."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, name: str) -> bytes | None:
        return self.values.get(name)

    async def put(self, name: str, value: bytes) -> None:
        self.values[name] = value


class Within(AttributionProcess):
    """The same calls, answered here: another process takes seconds to start."""

    def __init__(self, config: AttributionConfig) -> None:
        super().__init__(config)
        self._server = Server(load_base(config.base_dir))

    async def _call(self, command: Any, wanted: Any) -> Any:
        return _expect(self._server.answer(command(0)), wanted)


class Counting:
    """The real process, and which rows it was asked for."""

    def __init__(self, scorer: AttributionProcess) -> None:
        self._scorer = scorer
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    async def recheck_row(self, adapter: Cid, rows: Path, position: int, row: Any) -> bool:
        self.rows.append(position)
        return await self._scorer.recheck_row(adapter, rows, position, row)


@dataclasses.dataclass
class World:
    """An adapter's index as its author published it, and attributors who hear of it."""

    evidence: Evidence
    folder: Path
    scorer: Counting
    blobs: dict[Cid, Path] = dataclasses.field(default_factory=dict)
    record: AdapterRecord | None = None

    def publish(self, index: IndexManifest, rows: bytes, sums: bytes) -> Evidence:
        """Have the author announce this index and a measurement of it; what is known of it."""
        sealed = open_sealed(seal(AUTHOR, index, SIZE), (IndexManifest,), SIZE)
        name = cid_of(sealed.raw)
        measured = dataclasses.replace(self.evidence.faithfulness, index=name)
        announced = seal(AUTHOR, measured)
        for blob in (sealed.raw, announced, rows, sums):
            self._put(cid_of(blob), blob)
        self._put(index.rows, rows)
        self._put(index.sums, sums)
        stamp = (None, 0, 0, 1, 1, cid_of(announced))
        self.record = AdapterRecord("a/b", index.adapter, self.evidence.manifest.base, name, *stamp)
        found = dataclasses.replace(self.evidence.index, sealed=sealed, rows=rows, sums=sums)
        return dataclasses.replace(self.evidence, index=found, faithfulness=measured)

    def _put(self, cid: Cid, blob: bytes) -> None:
        self.blobs[cid] = self.folder / cid
        self.blobs[cid].write_bytes(blob)

    def attributor(self, name: str, kept: Kept) -> Scoring:
        """One of the two, as after a start."""
        evidence, world = self.evidence, self
        files = {
            evidence.manifest.early_checkpoint: evidence.early,
            evidence.manifest.factors: evidence.curvature,
        }

        class Content:
            async def get(self, cid: Cid, _most: int) -> bytes:
                return world.blobs[cid].read_bytes()

            async def path(self, cid: Cid, _most: int) -> Path:
                return files.get(cid) or world.blobs[cid]

            async def put(self, blob: bytes) -> Cid:
                world._put(cid_of(blob), blob)
                return cid_of(blob)

            hold = put

        class Catalog:
            async def adapter(self, _: Cid) -> Any:
                return evidence.manifest

            def record_of(self, *_: object) -> AdapterRecord | None:
                return world.record

        keys, store = SimpleNamespace(peer=KEYS[name]), SimpleNamespace(settings=kept)
        chain = {"domain": OFFLINE, "chain": SimpleNamespace(client=None)}
        node = SimpleNamespace(content=Content(), catalog=Catalog(), store=store, keys=keys, **chain)
        return Scoring(node, self.scorer)

    @property
    def answer(self) -> Scorable:
        stored = self.evidence.stored
        return Scorable(self.evidence.adapter, stored.receipt_hash, stored.prompt, stored.tokens)

    def forged(self, *places: int) -> Evidence:
        """The index with the last row's gradient in these places, and all that follows from its rows."""
        evidence = self.evidence
        index = evidence.index.manifest
        rows = committed_rows(evidence.datanets)
        owned = [OwnedRow(*rows[digest]) for digest in index.row_hashes]
        vectors = list(read_rows(bytes(evidence.index.rows), index.width))
        for place in places:
            vectors[place] = vectors[-1]
        waiting = iter(vectors)
        subject = subject_of(evidence.manifest, evidence.early, evidence.curvature, index.beacon)
        path = self.folder / f"forged-{places}"
        built = build_index(subject, owned, path, lambda some: [next(waiting) for _ in some])
        assert built.manifest.row_hashes == index.row_hashes
        return self.publish(built.manifest, built.rows, built.sums)


@asynccontextmanager
async def opened(
    made: Made, folder: Path, monkeypatch: pytest.MonkeyPatch, *, live: bool = False
) -> AsyncIterator[World]:
    """`live`: with a process of its own."""
    evidence, base = made

    async def datanets(*_: object) -> list[Any]:
        """Whether an index holds its rows at all is looked at elsewhere."""
        return list(evidence.datanets)

    monkeypatch.setattr("commonlore.peer.attribution.scored_by.require_drawn", datanets)
    monkeypatch.setattr("commonlore.peer.attribution.scoring.pull_all", datanets)
    config = AttributionConfig(base, folder / "work", threads=1)
    config.work_dir.mkdir()
    with trio.fail_after(120):
        if not live:
            yield World(evidence, folder, Counting(Within(config)))
            return
        async with open_attribution(config) as scorer:
            yield World(evidence, folder, Counting(scorer))


def both(
    evidence: Evidence, own: Sealed[AttributionStatement], other: Sealed[AttributionStatement]
) -> Evidence:
    """What is published of a receipt that these two scored."""
    second = SecondEvidence(other, query=evidence.index.query)
    return dataclasses.replace(evidence, statement=own, seconds=(second,))


async def test_an_honest_index_is_looked_at_once(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(made, tmp_path, monkeypatch) as world:
        index = world.evidence.index
        evidence, kept = world.publish(index.manifest, bytes(index.rows), bytes(index.sums)), Kept()
        stated = await world.attributor("worker", kept).state(world.answer)
        assert (stated.record.method, stated.record.challenged) == (index.manifest.method, None)
        assert sorted(world.scorer.rows) == list(range(6)), "so few rows are all looked at"
        assert len(kept.values[SECRET]) == 32
        again = await world.attributor("worker", kept).state(world.answer)
        assert again.record == stated.record
        assert len(world.scorer.rows) == 6, "a node that was started anew draws nothing anew"

        # somebody says that an honest row is none: it is looked at, and nothing changes
        scoring = world.attributor("worker", kept)
        assert not await scoring.doubt(world.answer.adapter, 2)
        assert (await scoring.state(world.answer)).record == stated.record
        with pytest.raises(RemoteProtocolError, match="6 rows, none 6"):
            await scoring.doubt(world.answer.adapter, 6)
        priors = prior_weights(evidence.manifest)
        changes: dict[str, Any] = {"method": CHALLENGED_METHOD, "weights": priors, "challenged": 2}
        false = seal(KEYS["worker"], dataclasses.replace(stated.record, **changes))
        receipt = dataclasses.replace(evidence, statement=open_sealed(false, (AttributionStatement,)))
        assert verify_integers(receipt).passed, "only computing the row tells"
        found = await trio.to_thread.run_sync(verify_query, receipt, made[1])
        assert not found.passed
        assert "row 2 of the index is its row's gradient: it is challenged falsely" in found.showed[-1]


async def test_a_forged_row_pays_nobody_by_scores_whoever_draws_it(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker draws other rows than the second: their statements differ, and the priors are paid."""
    caplog.set_level(logging.INFO)
    async with opened(made, tmp_path, monkeypatch, live=True) as world:
        evidence, kept = world.forged(0), Kept()
        priors = prior_weights(evidence.manifest)
        monkeypatch.setattr(row_checks, "draw_rows", lambda *_: [1, 2])
        worker = world.attributor("worker", kept)
        own = await worker.state(world.answer)
        assert own.record.challenged is None
        assert own.record.weights != priors
        monkeypatch.setattr(row_checks, "draw_rows", lambda *_: [3, 0, 4])
        other = await world.attributor("second", Kept()).state(world.answer)
        assert (other.record.method, other.record.challenged) == (CHALLENGED_METHOD, 0)
        assert other.record.weights == priors
        assert world.scorer.rows == [1, 2, 3, 0], "the first that differs is enough"

        contradicting = both(evidence, own, other)
        assert contradicting.judged is not None
        assert (contradicting.judged.basis, contradicting.judged.weights) == (Basis.CHALLENGED, priors)
        found = await trio.to_thread.run_sync(verify_query, contradicting, made[1])
        assert found.passed, found
        assert "not its row's gradient: it is challenged rightly" in found.showed[-1]

        # the worker hears of it, computes that one row, and says the same from then on
        restated: list[Stated] = []

        async def keep(sealed: Stated) -> None:
            restated.append(sealed)

        node: Any = SimpleNamespace(
            rpc=SimpleNamespace(serve=lambda *_: None),
            store=SimpleNamespace(records=SimpleNamespace(put_statement=keep)),
        )
        step: Any = SimpleNamespace(
            receipt_hash=world.answer.receipt_hash,
            request=SimpleNamespace(prompt=world.answer.prompt),
            before=(),
            tokens=world.answer.output,
        )
        opinions = SecondOpinions(node, worker, evidence.manifest.base)
        await opinions._weigh_challenge(step, own, other.record)
        assert world.scorer.rows[4:] == [0]
        assert [each.record.challenged for each in restated] == [0]
        assert "is challenged rightly" in caplog.text
        unanimous = both(evidence, restated[0], other)
        assert unanimous.judged is not None
        assert (unanimous.judged.basis, unanimous.judged.weights) == (Basis.CHALLENGED, priors)
        later = await world.attributor("worker", kept).state(world.answer)
        assert later.record.challenged == 0, "a node that was started anew remembers"
        assert len(world.scorer.rows) == 5


async def test_sums_that_lean_are_not_scored_by(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(made, tmp_path, monkeypatch) as world:
        index = world.evidence.index
        one = 4 * index.manifest.width
        leaning = bytes(index.sums[one:]) + bytes(index.sums[:one])
        lying = dataclasses.replace(index.manifest, sums=describe_blob([leaning])[0])
        world.publish(lying, bytes(index.rows), leaning)
        kept = Kept()
        with pytest.raises(RemoteProtocolError, match="not the sum of its rows"):
            await world.attributor("worker", kept).state(world.answer)
        assert not [name for name in kept.values if name.startswith(FOUND)]
        assert world.scorer.rows == []


async def test_nobody_scores_by_an_index_that_was_shown_wrong_on_the_chain(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[IndexStanding | None] = [None]

    async def standing(*_: object) -> IndexStanding | None:
        return found[0]

    monkeypatch.setattr(scored_by, "standing_of", standing)
    async with opened(made, tmp_path, monkeypatch) as world:
        index = world.evidence.index
        world.publish(index.manifest, bytes(index.rows), bytes(index.sums))
        trees = build_index_trees(PublishedIndex(index.manifest, bytes(index.rows), bytes(index.sums)))
        committed = trees.commitment(world.evidence.manifest.author_payee, world.record.index, index.manifest)
        kept = Kept()
        attributor = world.attributor("worker", kept)
        stated = await attributor.state(world.answer)
        found[0] = IndexStanding(committed, killed="sum does not follow")
        with pytest.raises(RemoteProtocolError, match="shown wrong on the chain"):
            await attributor.state(world.answer)
        found[0] = IndexStanding(dataclasses.replace(committed, sums_root=bytes(32)))
        with pytest.raises(RemoteProtocolError, match="not what its author committed"):
            await world.attributor("worker", kept).state(world.answer)
        found[0] = IndexStanding(committed)
        again = await world.attributor("worker", kept).state(world.answer)
        assert again.record == stated.record
