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
from commonlore.protocol.attribution.faithfulness import (
    CHALLENGED_METHOD,
    COARSE_METHOD,
    UNMEASURED_METHOD,
    Correlations,
    Faithfulness,
)
from commonlore.protocol.attribution.pool_evidence import divide_by_statements
from commonlore.protocol.attribution.pools import FEWEST_DRAWN, Basis
from commonlore.protocol.attribution.scoring import PRIOR_METHOD
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import decode, record_cid, record_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import NotFound
from commonlore.protocol.ids import Address, Cid, cid_of, digest_of, keccak256
from commonlore.protocol.receipts.channels import Channel
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.receipts.records import (
    AttributionStatement,
    Credit,
    Effects,
    PartEffect,
    Receipt,
    ReceiptDetails,
    SignedReceipt,
    Weight,
)
from commonlore.protocol.receipts.rules import compute_voucher
from commonlore.protocol.requests.records import Sampling
from commonlore.protocol.settlement.commitments import EpochData, build_epoch
from commonlore.protocol.settlement.epoch_leaves import by_account, pool_of
from commonlore.protocol.settlement.pool_check import paid_weights, recheck_pools
from commonlore.protocol.settlement.settled import SettledReceipt, pool_credits
from commonlore.protocol.signing.eip712 import Domain, digest
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

A, B, C = (Address(bytes([n]) * 20) for n in (0x0A, 0x0B, 0x0C))
DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
WORKER, SECOND, AUTHOR = (PeerKey.generate(keccak256(name)) for name in (b"worker", b"second", b"author"))
ACCOUNTS = NetworkAccounts(Address(b"\x01" * 20), Address(b"\x02" * 20))
OWNER = Address(b"\x03" * 20)
DETAILS = ReceiptDetails(bytes(32), bytes(32), Sampling(seed=1, max_tokens=2), "stop")
MANIFEST = AdapterManifest(
    "a", cid_of(b"base"), cid_of(b"weights"), 7, 8, 16, ("q_proj",), bytes(32), (cid_of(b"d"),),
    Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"), None, None, DEFAULT_SPLIT,
    (PriorWeight(A, 500_000), PriorWeight(B, 500_000)), "CC0-1.0", AUTHOR.public, Address(b"\xaa" * 20),
)  # fmt: skip
ADAPTER, INDEX = record_cid(MANIFEST), cid_of(b"index")
REACHED = Correlations(1_900_000, 10_000, 1_100_000, 1_000_000, 10_000)
MEASUREMENT = Faithfulness(ADAPTER, INDEX, "m", 6, 10, 24, 6, 4, REACHED)
SEALED = seal(AUTHOR, MEASUREMENT)
MEASURED = cid_of(SEALED)
OPENED = {MEASURED: MEASUREMENT}


class Adapters:
    """The adapters that a test knows, and what the author measured of the first."""

    def __init__(self, known: dict[Cid, AdapterManifest]) -> None:
        self._known = known

    async def adapter(self, cid: Cid) -> AdapterManifest:
        if cid not in self._known:
            raise NotFound(f"nobody has {cid}")
        return self._known[cid]

    async def measurement(self, cid: Cid) -> bytes:
        return {MEASURED: SEALED}[cid]


ONE = Adapters({ADAPTER: MANIFEST})


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


async def state(
    records: Records,
    receipt: StoredReceipt,
    ppm_of_a: int,
    key: PeerKey = WORKER,
    measured: Cid | None = MEASURED,
) -> None:
    weights = tuple(w for w in (Weight(A, ppm_of_a), Weight(B, PPM - ppm_of_a)) if w.ppm)
    made = AttributionStatement(
        receipt.receipt_hash, ADAPTER, INDEX, "m", bytes(32), weights, faithfulness=measured
    )
    await records.put_statement(open_sealed(seal(key, made), (AttributionStatement,)))


def crediting(records: Records, *, seconds: bool = True) -> Crediting:
    return Crediting(ACCOUNTS, records, ONE, WORKER.public, seconds=seconds)


async def test_what_parts_did_is_paid_only_beside_an_index_by_which_it_can_be_measured_again(
    tmp_path: Path,
) -> None:
    receipt = stored(1)
    claim = Effects(0, (PartEffect(Channel.ROW.value, bytes(32), B, PPM),))
    taken = (Weight(A, 250_000), Weight(B, 750_000))
    for index, paid in ((INDEX, taken), (None, (Weight(A, 500_000), Weight(B, 500_000)))):
        made = AttributionStatement(
            receipt.receipt_hash, ADAPTER, index, UNMEASURED_METHOD, bytes(32), taken, claim
        )
        async with opened(tmp_path) as records:
            await records.put_statement(open_sealed(seal(WORKER, made), (AttributionStatement,)))
            judged = await crediting(records).judged(MANIFEST, ADAPTER, receipt.receipt_hash)
        assert judged.weights == paid, index


async def test_a_barred_index_divides_nothing_and_is_not_published(tmp_path: Path) -> None:
    receipt, barred = stored(1), {INDEX}
    priors = (Weight(A, 500_000), Weight(B, 500_000))

    async def is_barred(manifest: AdapterManifest, index: Cid) -> bool:
        assert manifest == MANIFEST
        return index in barred

    async with opened(tmp_path) as records:
        await state(records, receipt, 900_000)
        dividing = Crediting(ACCOUNTS, records, ONE, WORKER.public, barred=is_barred)
        division = await dividing.divide([receipt], OWNER)
        assert division.pools[ADAPTER].receipts[receipt.receipt_hash].weights == priors
        assert (division.statements, division.measured, division.unknown) == ([], {}, {})
        barred.clear()
        division = await dividing.divide([receipt], OWNER)
        assert division.pools[ADAPTER].receipts[receipt.receipt_hash].weights[0].ppm == 900_000


async def test_a_large_pool_is_divided_by_its_drawn_receipts_and_a_stranger_finds_the_same(
    tmp_path: Path,
) -> None:
    receipts = [stored(number) for number in range(1, 41)]
    async with opened(tmp_path) as records:
        for one in receipts:
            await state(records, one, one.number * 20_000)
        division = await crediting(records).divide(receipts, OWNER, b"beacon")
    assert all(sum(c.amount for c in division.credits_of(r.receipt_hash, ())) == 10_000 for r in receipts)
    pool = division.pools[ADAPTER]
    assert len(pool.drawn) == len(division.statements) == FEWEST_DRAWN
    assert 0 < pool.error_ppm < 100_000
    sealed = [open_sealed(raw, (AttributionStatement,), MAX_STATEMENT_BYTES) for raw in division.statements]
    amounts = {one.receipt_hash: one.receipt.shares.contributors for one in receipts}
    assert divide_by_statements(b"beacon", MANIFEST, amounts, sealed, WORKER.public, OPENED) == pool
    assert division.measured == {MEASURED: SEALED}


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


def test_without_the_workers_own_statement_nobody_elses_counts() -> None:
    """Whoever publishes could have any stranger say anything; the worker answers for its own."""
    digest = keccak256(b"a receipt")
    made = AttributionStatement(
        digest, ADAPTER, INDEX, "m", bytes(32), (Weight(A, PPM),), faithfulness=MEASURED
    )
    for key, basis in ((SECOND, Basis.PRIOR), (WORKER, Basis.SINGLE)):
        sealed = open_sealed(seal(key, made), (AttributionStatement,))
        found = divide_by_statements(b"", MANIFEST, {digest: 4_000}, [sealed], WORKER.public, OPENED)
        assert found.receipts[digest].basis is basis


@pytest.mark.parametrize(
    ("method", "challenged"), [(CHALLENGED_METHOD, 7), (PRIOR_METHOD, None), (COARSE_METHOD, None)]
)
def test_a_second_word_on_another_index_says_nothing_of_this_one(method: str, challenged: int | None) -> None:
    """A row that it challenges would be looked for in the wrong place, and the honest scores be void."""
    digest = keccak256(b"a receipt")
    made = AttributionStatement(
        digest, ADAPTER, INDEX, "m", bytes(32), (Weight(A, PPM),), faithfulness=MEASURED
    )
    priors = tuple(Weight(each.payee, each.ppm) for each in MANIFEST.priors)
    for index, basis in (
        (cid_of(b"another index"), (Basis.SINGLE,)),
        (INDEX, (Basis.CHALLENGED, Basis.DISPUTED)),
    ):
        said = replace(made, index=index, method=method, weights=priors, challenged=challenged)
        given = [
            open_sealed(seal(key, one), (AttributionStatement,))
            for key, one in ((WORKER, made), (SECOND, said))
        ]
        found = divide_by_statements(b"", MANIFEST, {digest: 4_000}, given, WORKER.public, OPENED)
        assert found.receipts[digest].basis in basis


@pytest.mark.parametrize(
    "weights", [(Weight(A, 400_000), Weight(C, 600_000)), (Weight(C, PPM),), (Weight(A, 999_999),)]
)
def test_a_statement_that_pays_a_stranger_or_not_the_whole_does_not_count(
    weights: tuple[Weight, ...],
) -> None:
    digest = keccak256(b"a receipt")
    made = AttributionStatement(digest, ADAPTER, INDEX, "m", bytes(32), weights, faithfulness=MEASURED)
    sealed = open_sealed(seal(WORKER, made), (AttributionStatement,))
    found = divide_by_statements(b"", MANIFEST, {digest: 4_000}, [sealed], WORKER.public, OPENED)
    assert found.receipts[digest].basis is Basis.PRIOR


async def test_scores_that_nobody_measured_divide_nothing(tmp_path: Path) -> None:
    unmeasured, measured = stored(1), stored(2)
    async with opened(tmp_path) as records:
        await state(records, unmeasured, 900_000, measured=None)
        await state(records, measured, 900_000)
        division = await crediting(records).divide([unmeasured, measured], OWNER)
    found = [division.pools[ADAPTER].receipts[each.receipt_hash] for each in (unmeasured, measured)]
    assert [(each.basis, each.weights[0].ppm) for each in found] == [
        (Basis.PRIOR, 500_000),
        (Basis.SINGLE, 900_000),
    ]


@pytest.mark.parametrize("method", [PRIOR_METHOD, COARSE_METHOD, UNMEASURED_METHOD])
async def test_who_names_the_priors_has_their_weights_or_does_not_count(tmp_path: Path, method: str) -> None:
    part = PartEffect(Channel.ROW, bytes(32), A, 250)
    own = tuple(Weight(each.payee, each.ppm) for each in MANIFEST.priors)
    with_row = (Weight(A, 625_000), Weight(B, 375_000))  # a quarter for the row, the rest by the priors
    stated = {1: (own, None), 2: ((Weight(A, PPM),), None), 3: (with_row, Effects(750, (part,)))}
    receipts = {number: stored(number) for number in stated}
    async with opened(tmp_path) as records:
        for number, (weights, effects) in stated.items():
            digest = receipts[number].receipt_hash
            made = AttributionStatement(digest, ADAPTER, INDEX, method, bytes(32), weights, effects)
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
    roles = {c.role for c in division.credits_of(plain.receipt_hash, ())}
    assert roles == {"platform", "worker", "work_pool"}


# ---- several adapters


LIGHT = replace(MANIFEST, name="light", priors=(PriorWeight(C, PPM),), author_payee=Address(b"\xbb" * 20))
MANIFESTS = {ADAPTER: MANIFEST, record_cid(LIGHT): LIGHT}


BOTH = Adapters(MANIFESTS)


def mixed(number: int, light_ppm: int) -> StoredReceipt:
    one = stored(number)
    adapters = (AdapterWeight(ADAPTER, PPM - light_ppm), AdapterWeight(record_cid(LIGHT), light_ppm))
    receipt = replace(one.receipt, adapters=adapters)
    return replace(one, receipt_hash=digest(DOMAIN, receipt), signed=replace(one.signed, receipt=receipt))


def settled_of(stored: StoredReceipt, credits: tuple[Credit, ...]) -> SettledReceipt:
    authors = tuple(MANIFESTS[entry.adapter].author_payee for entry in stored.receipt.adapters)
    voucher = compute_voucher(DOMAIN, stored.receipt, None)
    return SettledReceipt(stored.receipt, bytes(65), voucher, bytes(65), authors, credits)


async def test_each_adapter_s_people_are_paid_by_its_own_statements_in_proportion(tmp_path: Path) -> None:
    """And a stranger finds the same from what is published. A word on one adapter that names the other's
    people does not count: the priors divide its part."""
    receipts = [mixed(number, light_ppm) for number, light_ppm in enumerate((300_000, 1, 999_999), 1)]
    async with opened(tmp_path) as records:
        for one, ppm_of_a in zip(receipts, (900_000, 100_000, 500_000), strict=True):
            await state(records, one, ppm_of_a)
        made = AttributionStatement(
            receipts[0].receipt_hash, record_cid(LIGHT), None, "m", bytes(32), (Weight(A, PPM),)
        )
        await records.put_statement(open_sealed(seal(WORKER, made), (AttributionStatement,)))
        division = await Crediting(ACCOUNTS, records, BOTH, WORKER.public).divide(receipts, OWNER)
    credits = [division.credits_of(one.receipt_hash, ()) for one in receipts]
    paid = [{(c.role, c.account): c.amount for c in each} for each in credits]
    assert [each["contributor", C] for each in paid if ("contributor", C) in each] == [1_200, 4_000]
    assert [each["contributor", A] for each in paid[:2]] == [2_520, 400]
    assert [sum(each.values()) for each in paid] == [10_000] * 3
    assert [each["author", LIGHT.author_payee] for each in (paid[0], paid[2])] == [450, 1_500]

    settled = [settled_of(one, earned) for one, earned in zip(receipts, credits, strict=True)]
    for one in settled:
        assert {c.part for c in one.credits} <= {0, 1}
    earlier = decode(EpochData, build_epoch(DOMAIN, 0, settled, {}).data)
    folded = pool_credits(settled)
    later = EpochData(
        1, (), (), tuple(sorted(folded, key=by_account)), tuple(division.statements), measured=(SEALED,)
    )
    manifests = {
        pool_of(manifest.author_payee, digest_of(adapter)): manifest
        for adapter, manifest in MANIFESTS.items()
    }
    found = recheck_pools(DOMAIN, earlier, later, manifests, WORKER.public)
    assert set(found) == set(manifests)
    assert not any(pool.wrong for pool in found.values())
    by_receipt = paid_weights(DOMAIN, earlier, found)
    weights = {weight.payee: weight.ppm for weight in by_receipt[receipts[0].receipt_hash]}
    assert weights == {A: 630_000, B: 70_000, C: 300_000}
    greedy = tuple(replace(c, amount=c.amount + 1) if c.account == C else c for c in later.credits)
    (wrong,) = (
        each.wrong
        for each in recheck_pools(
            DOMAIN, earlier, replace(later, credits=greedy), manifests, WORKER.public
        ).values()
        if each.wrong
    )
    assert wrong == {C: (5_200, 5_201)}


async def test_what_of_a_receipt_cannot_be_divided_now_is_credited_as_it_was_published(
    tmp_path: Path,
) -> None:
    one = mixed(1, 300_000)
    async with opened(tmp_path) as records:
        crediting = Crediting(ACCOUNTS, records, BOTH, WORKER.public)
        published = await crediting.credits_of(one, OWNER)
        assert await crediting.authors_of(one.receipt) == (MANIFEST.author_payee, LIGHT.author_payee)
        await state(records, one, PPM)
        division = await Crediting(ACCOUNTS, records, ONE, WORKER.public).divide([one], OWNER)
    assert set(division.unknown) == {one.receipt_hash}
    credits = division.credits_of(one.receipt_hash, published)
    contributors = {c.account: c.amount for c in credits if c.role == "contributor"}
    assert contributors == {A: 2_800, C: 1_200}
    assert sum(c.amount for c in credits) == one.receipt.price
    check_credits = settled_of(one, credits)
    assert [part.part.price for part in check_credits.placed] == [
        sum(c.amount for c in credits if c.part == number) for number in (0, 1)
    ]
