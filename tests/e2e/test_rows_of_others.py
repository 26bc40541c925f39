"""Rows in a prompt, explained and taken back, between real processes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from commonlore.peer.actions import gather_here
from commonlore.peer.asking.answers import Retrieval
from commonlore.peer.attribution.verifying import verify_integers, verify_query, verify_signatures
from commonlore.peer.datanets.shards import pull_datanet
from commonlore.peer.identity.keystore import Keystore
from commonlore.protocol.attribution.scoring import sum_rows, write_sums
from commonlore.protocol.attribution.written_rows import write_row
from commonlore.protocol.content.manifests import IndexedContributor, IndexManifest
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.encoding.merkle import MerkleTree
from commonlore.protocol.errors import InvalidAdapter, InvalidShard
from commonlore.protocol.ids import Cid
from commonlore.protocol.requests.records import Sampling
from commonlore.protocol.signing.envelope import seal
from commonlore.worker.attribution.index import leaf_of
from commonlore.worker.models.cache import find_base

SHORT = Sampling(seed=5, max_tokens=12, temperature_ppm=700_000)
QUESTION = "what is ben number 3?"
WIDTH = 64


@pytest.fixture(scope="module", autouse=True)
def payers(town: Any) -> None:
    """Money for the client of this file, in an epoch without answers yet: the first ones are all scored."""
    town.next_epoch()
    town.deposit("carol", 10_000_000)


async def test_rows_are_retrieved_cited_stated_and_explained(
    town: Any, ask: Any, scored: Any, adapter: str
) -> None:
    async with town.client("carol") as carol:
        answer = await ask(carol, adapter, sampling=SHORT, retrieve=Retrieval("numbers", 3))
        assert answer.citations[0].question == QUESTION
        assert answer.citations[0].contributor == "ben"
        (receipt,) = answer.transcript.receipts
        assert receipt.details.retrieved_rows == tuple(cited.row for cited in answer.citations)
        credits = await scored(carol, answer)
        assert sum(credit.amount for credit in credits.credits) == receipt.receipt.price
        (evidence,) = await gather_here(carol.node, credits.receipt, 2)
    assert evidence.statement is not None
    effects = evidence.statement.record.effects
    assert [part.part for part in effects.parts] == [cited.row for cited in answer.citations]
    base = find_base(town.cache, evidence.manifest.base)
    findings = (verify_signatures(evidence), verify_integers(evidence), verify_query(evidence, base))
    assert all(finding.passed for finding in findings), findings
    explained = await trio.to_thread.run_sync(lambda: explain(town, credits.receipt.receipt_id.hex()))
    assert explained["prompt_rows"][0]["answer"].startswith("ben 3 is ")
    assert 0 < len(explained["rows"]) <= 12
    assert all(row["sigma"] > 0 for row in explained["rows"]), "only rows that stand out are shown"
    assert sum(part["ppm"] for part in explained["contributors"]) == 1_000_000
    assert (town.folder / "why.svg").read_bytes().startswith(b"<?xml")


def explain(town: Any, receipt: str) -> Any:
    words = ("receipt", "explain", receipt, "--json", "--plot", town.folder / "why.svg")
    return town.lore(*words, home=town.folder / "carol").json


async def test_who_takes_rows_back_ends_what_learnt_from_them(
    town: Any, publish: Any, ask: Any, until: Any
) -> None:
    keystore = Keystore(town.network.home("contributor").keys)
    shards = [shard_of(keystore.create(name).name) for name in ("dan", "eve")]
    described = {"name": "doomed", "purpose": "numbers", "kind": "text", "licence": "CC0-1.0"}
    with town.control("contributor") as control:
        record = control.post("/datanets", described | {"contributions": shards})
    async with town.client("carol") as carol:
        await until(lambda: "doomed" in {known.name for known in carol.node.catalog.datanets()})
        data = b"weights of an adapter that is never loaded"
        own = {"datanets": (record["datanet"],), "author": carol.node.keys.peer.public}
        adapter = await publish(carol, "carol/doomed", data, **own)
        index, rows, vectors = await announce_index(carol.node, adapter, record["datanet"])
        found = await ask(carol, sampling=SHORT, retrieve=Retrieval("doomed", 4))
        assert {cited.contributor for cited in found.citations} == {"dan", "eve"}

        await until(lambda: known(town, "carol/doomed", index))
        done = await trio.to_thread.run_sync(withdraw, town, "eve")
        assert (done["version"], [found["adapter"] for found in done["tainted"]]) == (2, [adapter])
        taken = done["tainted"][0]["rows_taken"]
        assert [(each["contributor"], each["rows"]) for each in taken] == [("eve", 4)]
        await until(lambda: carol.node.catalog.withdrawn == set(done["shards"]))
        await until(lambda: not carol.node.content.has(rows))
        left = await carol.node.differences.latest(index)
        assert left is not None
        assert left[1].row_count == 4
        await until(lambda: carol.node.catalog.record_of(adapter).difference is not None)
        for home in (town.folder / "carol", town.network.home("contributor").path):
            blobs = written_in(home)
            assert all(any(vector in blob for blob in blobs) for vector in vectors["dan"])
            assert not any(vector in blob for vector in vectors["eve"] for blob in blobs)
        shown = await trio.to_thread.run_sync(
            lambda: town.lore("datanet", "show", "doomed", home="contributor")
        )
        assert f"adapter carol/doomed ({adapter}) learnt from it, refused since" in shown.out
        assert "4 rows of eve taken out" in shown.out
        assert await carol.node.retriever.forget(done["shards"][0]) == 0  # it is gone already
        with pytest.raises(InvalidAdapter, match="withdrawn"):
            await ask(carol, "carol/doomed", sampling=SHORT)
        found = await ask(carol, sampling=SHORT, retrieve=Retrieval("doomed", 4))
        assert {cited.contributor for cited in found.citations} == {"dan"}
        done = await trio.to_thread.run_sync(withdraw, town, "dan")
        assert done["version"] == 3, "a version without rows tells everybody else"
        await until(lambda: set(done["shards"]) < carol.node.catalog.withdrawn)
        await until(lambda: carol.node.catalog.datanet_record("doomed").version == 3)
        with pytest.raises(InvalidShard, match="version 3 has no rows left"):
            await ask(carol, sampling=SHORT, retrieve=Retrieval("doomed", 4))

        async def all_rows_left() -> bool:
            latest = await carol.node.differences.latest(index)
            return latest is not None and latest[1].row_count == 8

        await until(all_rows_left)


def withdraw(town: Any, contributor: str) -> Any:
    words = ("datanet", "withdraw", "doomed", "--identity", contributor, "--json")
    return town.lore(*words, home="contributor").json


def written_in(home: Path) -> list[bytes]:
    """What stands in a home's files."""
    found: list[bytes] = []
    for path in filter(Path.is_file, home.rglob("*")):
        with suppress(FileNotFoundError):
            found.append(path.read_bytes())
    return found


def known(town: Any, alias: str, index: Cid) -> bool:
    with town.control("contributor") as control:
        return (alias, index) in {(listed["alias"], listed["index"]) for listed in control.get("/adapters")}


async def announce_index(node: Any, adapter: Cid, datanet: str) -> tuple[Cid, Cid, dict[str, list[bytes]]]:
    """An index of drawn vectors, one a row of a Datanet, under an adapter's author: its name, that of its
    rows, and the written rows of each contributor."""
    pulled = await pull_datanet(node.content, node.catalog, node.domain, Cid(datanet))
    shards = sorted(pulled.shards, key=lambda shard: shard.payee)
    drawn = np.random.default_rng(7)
    own = [[np.int8(9) * drawn.choice((-1, 1), WIDTH).astype(np.int8) for _ in s.rows] for s in shards]
    written = [[write_row(vector) for vector in vectors] for vectors in own]
    hashes = [row_hash(row) for shard in shards for row in shard.rows]
    rows = [row for each in written for row in each]
    index = IndexManifest(
        adapter, "drawn/1", WIDTH, bytes(32), len(rows), await node.content.put(b"".join(rows)),
        MerkleTree(leaf_of(digest, row) for digest, row in zip(hashes, rows, strict=True)).root,
        tuple(hashes), tuple(IndexedContributor(shard.payee, len(shard.rows)) for shard in shards),
        await node.content.put(write_sums(sum_rows(np.stack(vectors)) for vectors in own)),
    )  # fmt: skip
    cid = await node.content.put(seal(node.keys.peer, index, 1 << 20))
    known = node.catalog.record_of(adapter)
    stamp = {"seq": await node.next_seq(), "issued_ms": node.clock.now_ms()}
    await node.announce(replace(known, index=cid, **stamp))
    names = [shard.shard.header.contributor for shard in shards]
    return cid, index.rows, dict(zip(names, written, strict=True))


def shard_of(name: str) -> dict[str, Any]:
    rows = [{"question": f"what is {name} number {i}?", "answer": f"{name} {i}"} for i in range(4)]
    return {"contributor": name, "rows": rows, "licence": "CC0-1.0", "origin": "made for this test"}
