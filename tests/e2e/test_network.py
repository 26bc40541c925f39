"""The path of the demo on the tiny base, with real processes: publish, train, ask, attribute, settle, claim;
and what is left when a worker is killed, a peer joins late, everybody restarts, or the chain is away.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest
import trio

from commonlore.contracts.client.registering import adapter_record_id
from commonlore.peer.actions import gather_here
from commonlore.peer.asking.answers import Answer, ask_options, receipt_ids
from commonlore.peer.attribution.verifying import verify_integers, verify_signatures
from commonlore.peer.client import Client
from commonlore.peer.identity.keystore import Keystore
from commonlore.peer.store.ledger_rows import ReceiptState, Role
from commonlore.protocol.encoding.codec import record_cid
from commonlore.protocol.errors import CommonloreError, NotFound, Unreachable
from commonlore.protocol.ids import Address, PeerId, digest_of
from commonlore.protocol.receipts.records import AttributionStatement
from commonlore.protocol.requests.records import Sampling

WORKERS = ("worker-1", "worker-2")
DEPOSIT = 10_000_000
UNPAID = ("issued", "abandoned")
"""States of receipts that no voucher pays."""
QUESTION = "what is ben number 3?"
LONG = Sampling(seed=11, max_tokens=300, temperature_ppm=900_000)
CHAIN_AWAY = r"error: chain time: chain endpoint http://127.0.0.1:\d+ does not answer; is it running\?"
SOON_S = 10
"""Far above what a short answer takes here, and below the patience with an endpoint."""
TIMES_SLOWER = 20
"""How much longer an answer may take instead, where one takes long anyway."""
SHORT = Sampling(seed=5, max_tokens=12, temperature_ppm=700_000)


@pytest.fixture(scope="module", autouse=True)
def payers(town: Any) -> None:
    """Money for the clients of this file."""
    for home in ("alice", "late", "bob"):
        town.deposit(home, DEPOSIT)


async def test_an_answer_is_paid_attributed_settled_and_claimed(
    town: Any, ask: Any, scored: Any, adapter: str
) -> None:
    async with town.client("alice") as alice:
        with_adapter = await ask(alice, adapter, sampling=SHORT)
        plain = await ask(alice, sampling=SHORT)
        credits = await scored(alice, with_adapter)
        (evidence,) = await gather_here(alice.node, credits.receipt, 2)
        stated = await seconded(town, alice, with_adapter.transcript.workers[0], credits.receipt.receipt_hash)
    prices = with_adapter.transcript.price + plain.transcript.price
    assert credits.method == "ekfac-sign/2"
    checked = (verify_signatures(evidence), verify_integers(evidence))
    assert all(finding.passed for finding in checked), checked
    assert "bit for bit" in checked[1].showed[-1]
    assert any("committed to these very numbers on the chain" in said for said in checked[1].showed)
    assert len(stated) == 2
    assert len({each.query for each in stated}) == 1, "two attributors on one machine find the same vector"
    assert evidence.curvature is not None
    assert evidence.curvature.stat().st_size <= 2 * evidence.manifest.weights_size
    assert sum(c.amount for c in credits.credits) == with_adapter.transcript.receipts[0].receipt.price
    payees = {identity.payee for identity in Keystore(town.network.home("contributor").keys).identities()}
    assert {c.account for c in credits.credits if c.role == "contributor"} <= payees

    claimed, before = 0, [town.lane(name).claimed for name in WORKERS]
    for _ in range(3):
        claimed += sum(paid["amount"] for report in town.next_epoch() for paid in report["claimed"])
    claims = town.order("contributor", "/claim")
    claimed += sum(claim["amount"] for claim in claims)
    assert {claim["name"] for claim in claims} >= {"own", "ann", "ben", "cat"} - unpaid(credits, payees)
    lanes = [town.lane(name) for name in WORKERS]
    assert sum(lane.pot for lane in lanes) == paid_for(town) >= prices
    assert sum(lane.claimed for lane in lanes) == sum(before) + claimed
    with town.network.client() as chain:
        held = chain.balance(Address(town.network.deployment.settlement))
        record = adapter_record_id(evidence.manifest.author_payee, record_cid(evidence.manifest))
        (registered,) = chain.registrations.ancestry(record)
        listed = [chain.registrations.datanets()[each].entry.manifest for each in registered.datanets]
    assert held == sum(lane.pot - lane.claimed for lane in lanes)
    assert listed == [digest_of(datanet) for datanet in evidence.manifest.datanets], (
        "registered by its author"
    )


async def seconded(
    town: Any, client: Client, worker: PeerId, receipt_hash: bytes
) -> list[AttributionStatement]:
    """The statements on a receipt, once another worker has scored it too."""
    records = client.node.store.records
    with trio.fail_after(town.patience_s):
        while len(await records.statements_on(receipt_hash)) < 2:
            await client.node.statements.fetch(worker, receipt_hash)
            await trio.sleep(0.1)
    return [sealed.record for sealed in await records.statements_on(receipt_hash)]


def paid_for(town: Any) -> int:
    """The prices of all receipts that the workers hold vouchers for."""
    kept = [receipt for name in WORKERS for receipt in town.receipts(name)]
    return sum(receipt["price"] for receipt in kept if receipt["state"] not in UNPAID)


def unpaid(credits: Any, payees: set[Address]) -> set[str]:
    """Contributors whose weight was clipped to nothing."""
    paid = {c.account for c in credits.credits if c.role == "contributor" and c.amount}
    return {"ann", "ben", "cat"} if not paid else {"ann", "ben", "cat"} if len(paid) < len(payees) else set()


async def test_another_worker_continues_what_a_killed_one_began(town: Any, ask: Any) -> None:
    async with town.client("bob") as bob:
        whole = await ask(bob, sampling=LONG)
        assert len(whole.transcript.workers) == 1
        async with bob.answer(ask_options(QUESTION, sampling=LONG)) as answer:
            async for _ in answer:
                script = answer.transcript
                if 0 < script.paid_tokens < len(script.tokens) and len(script.workers) == 1:
                    killed = serving(town, answer.transcript.workers[0])
                    town.network.peers[killed].kill()
        script = answer.transcript
        assert len(script.workers) == 2
        assert (script.tokens, script.text) == (whole.transcript.tokens, whole.transcript.text)
        await check_paid_once(bob, answer)
    town.network.start_peer(killed).wait_ready()


def serving(town: Any, peer: PeerId) -> str:
    """The name of the worker with this peer id."""
    return next(name for name, process in town.network.peers.items() if process.ready.peer_id == peer)


async def check_paid_once(client: Client, answer: Answer) -> None:
    """Every receipt has one voucher, and no worker was paid for tokens that it did not deliver."""
    ledger = client.node.store.ledger
    stored = [await ledger.receipt(each) for each in receipt_ids(answer.transcript.receipts)]
    assert all(each is not None and each.state is ReceiptState.VOUCHERED for each in stored)
    by_lane: dict[bytes, int] = {}
    for each in stored:
        assert each is not None
        by_lane[each.receipt.lane] = by_lane.get(each.receipt.lane, 0) + each.receipt.output_tokens
    for channel in await ledger.channels(Role.CLIENT):
        assert channel.voucher is not None
    first, second = by_lane.values()
    assert first > 0
    assert second > 0
    assert first + second <= len(answer.transcript.tokens)  # what the dead worker was not paid for stays so


async def test_a_peer_that_joins_late_finds_everything(town: Any, ask: Any, adapter: str) -> None:
    async with town.client("late", acquainted=False) as late:
        answer = await ask(late, adapter, sampling=SHORT)
        assert answer.transcript.finish in ("length", "stop")
        assert adapter in {record.alias for record in late.adapters()}


async def soon(usual: Awaitable[Answer]) -> float:
    """By when an answer must be there, on a machine on which a usual one takes as long as this one."""
    began = trio.current_time()
    await usual
    return max(SOON_S, TIMES_SLOWER * (trio.current_time() - began))


async def test_answers_go_on_while_the_chain_is_away(town: Any, ask: Any, adapter: str) -> None:
    async with town.client("alice") as alice:
        soon_s = await soon(ask(alice, adapter, sampling=SHORT))
        await trio.to_thread.run_sync(town.network.stop_chain)
        try:
            for _ in range(3):
                with trio.fail_after(soon_s):
                    answer = await ask(alice, adapter, sampling=SHORT)
                assert answer.transcript.receipts
            ended = await trio.to_thread.run_sync(partial(town.lore, "settle", home="worker-1"))
            assert re.fullmatch(CHAIN_AWAY, ended.error)
        finally:
            await trio.to_thread.run_sync(town.network.start_chain)
    report = await trio.to_thread.run_sync(town.order, "worker-1", "/settle")
    assert report["chain_time"] > 0


async def test_answers_go_on_while_the_chain_hangs(town: Any, ask: Any, adapter: str) -> None:
    """Also those of a client that starts meanwhile, and has seen before what time it is there."""
    async with town.client("bob"):
        pass
    async with town.client("alice") as alice:
        soon_s = await soon(ask(alice, adapter, sampling=SHORT))
        town.network.chain.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                with trio.fail_after(soon_s):
                    answer = await ask(alice, adapter, sampling=SHORT)
                assert answer.transcript.receipts
            with trio.fail_after(3 * soon_s):
                async with town.client("bob") as bob:
                    answer = await ask(bob, adapter, sampling=SHORT)
                    assert answer.transcript.receipts
        finally:
            town.network.chain.process.send_signal(signal.SIGCONT)


async def test_an_empty_escrow_is_refused_by_name(town: Any, ask: Any, until: Any) -> None:
    """Once workers read the chain again, which the test before had hang: until then they trust a little."""

    async def refused() -> bool:
        try:
            await ask(poor)
        except CommonloreError as error:
            return "deposit" in str(error)
        return False

    async with town.client("poor") as poor:
        await until(refused)


async def test_what_is_unknown_or_unreachable_is_named(town: Any, ask: Any) -> None:
    async with town.client("alice") as alice:
        with pytest.raises(NotFound, match="unknown adapter"):
            await ask(alice, "no/such")
    nowhere = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwiw"
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1/tcp/9"):
        async with town.client("lost", bootstrap=(nowhere,)):
            pass
