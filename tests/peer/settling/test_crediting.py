"""Pools divided from a store's statements, and by a stranger from what is published: the same to the unit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from commonlore.peer.aio import open_aio
from commonlore.peer.settling.crediting import Crediting, NetworkAccounts
from commonlore.peer.store.ledger_rows import ReceiptState, Role, StoredReceipt
from commonlore.peer.store.node_store import open_store
from commonlore.peer.store.records import MAX_STATEMENT_BYTES, Records
from commonlore.protocol.attribution import PRIOR_METHOD
from commonlore.protocol.channels import Channel
from commonlore.protocol.codec import record_cid, record_hash
from commonlore.protocol.credits import DEFAULT_SPLIT, compute_shares
from commonlore.protocol.envelope import open_sealed, seal
from commonlore.protocol.errors import NotFound
from commonlore.protocol.faithfulness import COARSE_METHOD
from commonlore.protocol.ids import Address, Cid, cid_of, keccak256
from commonlore.protocol.keys import PeerKey
from commonlore.protocol.manifests import AdapterManifest, PriorWeight, Recipe
from commonlore.protocol.pool_evidence import divide_by_statements
from commonlore.protocol.pools import FEWEST_DRAWN, Basis
from commonlore.protocol.receipts import (
    AttributionStatement,
    Effects,
    PartEffect,
    Receipt,
    ReceiptDetails,
    SignedReceipt,
    Weight,
)
from commonlore.protocol.requests import PPM, AdapterWeight, Sampling

A, B = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
WORKER, SECOND = PeerKey.generate(keccak256(b"worker")), PeerKey.generate(keccak256(b"second"))
ACCOUNTS = NetworkAccounts(Address(b"\x01" * 20), Address(b"\x02" * 20))
OWNER = Address(b"\x03" * 20)
DETAILS = ReceiptDetails(bytes(32), bytes(32), Sampling(seed=1, max_tokens=2), "stop")
MANIFEST = AdapterManifest(
    "a", cid_of(b"base"), cid_of(b"weights"), 7, 8, 16, ("q_proj",), bytes(32), (cid_of(b"d"),),
    Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"), None, None, DEFAULT_SPLIT,
    (PriorWeight(A, 500_000), PriorWeight(B, 500_000)), "CC0-1.0", bytes(32), Address(b"\xaa" * 20),
)  # fmt: skip
ADAPTER = record_cid(MANIFEST)


async def manifest_of(cid: Cid) -> AdapterManifest:
    if cid != ADAPTER:
        raise NotFound(f"nobody has {cid}")
    return MANIFEST


def stored(number: int, adapter: Cid | None = ADAPTER, price: int = 10_000) -> StoredReceipt:
    receipt = Receipt(
        bytes(32), A, B, number, 0, 0, MANIFEST.base, (AdapterWeight(adapter, PPM),) if adapter else (),
        3, 2, bytes(32), price, compute_shares(price, DEFAULT_SPLIT), record_hash(DETAILS),
    )  # fmt: skip
    signed = SignedReceipt(receipt, bytes(65), DETAILS)
    digest = keccak256(number.to_bytes(4, "big"))
    return StoredReceipt(
        number, Role.WORKER, digest, signed, ReceiptState.VOUCHERED, (), None, None, None, None, 0
    )


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Records]:
    async with open_aio() as aio, open_store(path / "store.sqlite3", aio) as store:
        yield store.records


async def state(records: Records, receipt: StoredReceipt, ppm_of_a: int, key: PeerKey = WORKER) -> None:
    weights = tuple(w for w in (Weight(A, ppm_of_a), Weight(B, PPM - ppm_of_a)) if w.ppm)
    made = AttributionStatement(receipt.receipt_hash, ADAPTER, None, "m", bytes(32), weights)
    await records.put_statement(open_sealed(seal(key, made), (AttributionStatement,)))


def crediting(records: Records, *, seconds: bool = True) -> Crediting:
    return Crediting(ACCOUNTS, records, manifest_of, WORKER.public, seconds=seconds)


async def test_a_large_pool_is_divided_by_its_drawn_receipts_and_a_stranger_finds_the_same(
    tmp_path: Path,
) -> None:
    receipts = [stored(number) for number in range(1, 41)]
    async with opened(tmp_path) as records:
        for one in receipts:
            await state(records, one, one.number * 20_000)
        division = await crediting(records).divide(receipts, OWNER, b"beacon")
    assert all(sum(c.amount for c in division.credits[r.receipt_hash]) == 10_000 for r in receipts)
    pool = division.pools[ADAPTER]
    assert len(pool.drawn) == len(division.statements) == FEWEST_DRAWN
    assert 0 < pool.error_ppm < 100_000
    sealed = [open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES) for raw in division.statements]
    amounts = {one.receipt_hash: one.receipt.shares.contributors for one in receipts}
    assert divide_by_statements(b"beacon", MANIFEST, amounts, sealed, WORKER.public) == pool


async def test_two_attributors_agree_or_the_priors_apply(tmp_path: Path) -> None:
    agreed, disputed, alone = (stored(number) for number in (1, 2, 3))
    async with opened(tmp_path) as records:
        for one, first, second in ((agreed, 700_000, 704_000), (disputed, 700_000, 300_000)):
            await state(records, one, first)
            await state(records, one, second, SECOND)
        await state(records, alone, 900_000)
        division = await crediting(records).divide([agreed, disputed, alone], OWNER)
        ignored = await crediting(records, seconds=False).divide([disputed], OWNER)
    bases = [division.pools[ADAPTER].receipts[one.receipt_hash] for one in (agreed, disputed, alone)]
    assert [each.basis for each in bases] == [Basis.AGREED, Basis.DISPUTED, Basis.SINGLE]
    assert [each.weights[0].ppm for each in bases] == [702_000, 500_000, 900_000]
    assert division.pools[ADAPTER].disputed == {disputed.receipt_hash}
    assert ignored.pools[ADAPTER].receipts[disputed.receipt_hash].weights[0].ppm == 700_000


@pytest.mark.parametrize("method", [PRIOR_METHOD, COARSE_METHOD])
async def test_who_names_the_priors_has_their_weights_or_does_not_count(tmp_path: Path, method: str) -> None:
    part = PartEffect(Channel.ROW, bytes(32), A, 250)
    own = tuple(Weight(each.payee, each.ppm) for each in MANIFEST.priors)
    with_row = (Weight(A, 625_000), Weight(B, 375_000))  # a quarter for the row, the rest by the priors
    stated = {1: (own, None), 2: ((Weight(A, PPM),), None), 3: (with_row, Effects(750, (part,)))}
    receipts = {number: stored(number) for number in stated}
    async with opened(tmp_path) as records:
        for number, (weights, effects) in stated.items():
            digest = receipts[number].receipt_hash
            made = AttributionStatement(digest, ADAPTER, None, method, bytes(32), weights, effects)
            await records.put_statement(open_sealed(seal(WORKER, made), (AttributionStatement,)))
        division = await crediting(records).divide(list(receipts.values()), OWNER)
    found = [division.pools[ADAPTER].receipts[each.receipt_hash] for each in receipts.values()]
    assert [each.basis for each in found] == [Basis.SINGLE, Basis.PRIOR, Basis.SINGLE]
    assert [each.weights for each in found] == [own, own, with_row]


async def test_what_cannot_be_divided_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    unknown, plain, known = stored(1, cid_of(b"unknown")), stored(2, None), stored(3)
    plain = replace(plain, signed=replace(plain.signed, receipt=replace(
        plain.receipt, shares=replace(plain.receipt.shares, author=0, contributors=0, worker=8_500)
    )))  # fmt: skip
    async with opened(tmp_path) as records:
        division = await crediting(records).divide([unknown, plain, known], OWNER)
    assert set(division.unknown) == {unknown.receipt_hash}
    assert isinstance(division.unknown[unknown.receipt_hash], NotFound)
    assert set(division.credits) == {plain.receipt_hash, known.receipt_hash}
    assert {c.role for c in division.credits[plain.receipt_hash]} == {"platform", "worker", "work_pool"}
