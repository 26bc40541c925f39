"""Rows in a prompt, explained and taken back, between real processes."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from commonlore.peer.actions import gather_here
from commonlore.peer.asking.answers import Retrieval
from commonlore.peer.attribution.verifying import verify_integers, verify_query, verify_signatures
from commonlore.peer.identity.keystore import Keystore
from commonlore.protocol.attribution.pools import Basis
from commonlore.protocol.errors import InvalidAdapter
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.models.cache import find_base

SHORT = Sampling(seed=5, max_tokens=12, temperature_ppm=700_000)
QUESTION = "what is ben number 3?"


@pytest.fixture(scope="module", autouse=True)
def payers(town: Any) -> None:
    """Money for the client of this file, in an epoch without answers yet: the first ones are all scored."""
    town.next_epoch()
    town.deposit("carol", 10_000_000)


async def test_rows_are_retrieved_cited_stated_and_explained(town: Any, ask: Any, adapter: str) -> None:
    async with town.client("carol") as carol:
        answer = await ask(carol, adapter, sampling=SHORT, retrieve=Retrieval("numbers", 3))
        assert answer.citations[0].question == QUESTION
        assert answer.citations[0].contributor == "ben"
        (receipt,) = answer.transcript.receipts
        assert receipt.details.retrieved_rows == tuple(cited.row for cited in answer.citations)
        with trio.fail_after(180):  # a worker is asked for a minute at a time
            while (credits := (await carol.credits(answer))[0]).method == Basis.PRIOR.value:
                await trio.lowlevel.checkpoint()
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
        adapter = await publish(carol, "carol/doomed", data, datanets=(record["datanet"],))
        found = await ask(carol, sampling=SHORT, retrieve=Retrieval("doomed", 4))
        assert {cited.contributor for cited in found.citations} == {"dan", "eve"}

        def tainted() -> Any:
            done = town.lore(
                "datanet", "withdraw", "doomed", "--identity", "eve", "--json", home="contributor"
            )
            return done.json

        await until(lambda: known(town, "carol/doomed"))
        done = await trio.to_thread.run_sync(tainted)
        assert (done["version"], [found["adapter"] for found in done["tainted"]]) == (2, [adapter])
        await until(lambda: carol.node.catalog.withdrawn == set(done["shards"]))
        assert await carol.node.retriever.forget(done["shards"][0]) == 0  # it is gone already
        with pytest.raises(InvalidAdapter, match="withdrawn"):
            await ask(carol, "carol/doomed", sampling=SHORT)
        found = await ask(carol, sampling=SHORT, retrieve=Retrieval("doomed", 4))
        assert {cited.contributor for cited in found.citations} == {"dan"}


def known(town: Any, alias: str) -> bool:
    with town.control("contributor") as control:
        return alias in {listed["alias"] for listed in control.get("/adapters")}


def shard_of(name: str) -> dict[str, Any]:
    rows = [{"question": f"what is {name} number {i}?", "answer": f"{name} {i}"} for i in range(4)]
    return {"contributor": name, "rows": rows, "licence": "CC0-1.0", "origin": "made for this test"}
