"""`receipt` in a home in which no node runs: what its store holds is shown all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from commonlore.peer.aio import open_aio
from commonlore.peer.chain import OFFLINE
from commonlore.peer.home import Home
from commonlore.peer.identity.keystore import Keystore
from commonlore.peer.store.ledger_rows import NewReceipt, Role
from commonlore.peer.store.node_store import open_store
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.encoding.codec import record_hash
from commonlore.protocol.ids import cid_of, keccak256, receipt_id_of
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.receipts.records import Receipt, ReceiptDetails
from commonlore.protocol.receipts.rules import make_voucher, sign_receipt
from commonlore.protocol.requests.records import Sampling
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import digest
from commonlore.protocol.signing.keys import AccountKey, PeerKey

OWNER, LANE, PAYER = (AccountKey.from_secret(keccak256(name)) for name in (b"owner", b"lane", b"payer"))
CREATED_MS = 1_795_641_818_024


def keep_one(home: Path, owner: AccountKey) -> str:
    """Put one receipt into a home's store, paid by it to a known worker; its id."""
    details = ReceiptDetails(bytes(32), bytes(32), Sampling(seed=1, max_tokens=2), "stop")
    made = Receipt(
        request_hash=bytes(32),
        payer=PAYER.address,
        lane=LANE.address,
        seq=1,
        epoch=0,
        step=0,
        artefact=cid_of(b"base"),
        adapters=(),
        prompt_tokens=3,
        output_tokens=2,
        output_root=bytes(32),
        price=1_000,
        shares=compute_shares(1_000, BASE_SPLIT),
        details=record_hash(details),
    )
    signed = sign_receipt(OFFLINE, LANE, made, details)
    new = NewReceipt(digest(OFFLINE, made), signed, (1, 2), None, CREATED_MS)
    binding = bind(OFFLINE, owner, LANE, PeerKey.generate(b"p" * 32), 1, 1 << 40)

    async def keep() -> None:
        async with open_aio() as aio, open_store(Home(home).create().store, aio) as store:
            voucher = make_voucher(OFFLINE, PAYER, made, None)
            await store.ledger.record_voucher(Role.CLIENT, voucher, new)
            await store.records.put_binding(binding)

    trio.run(keep)
    return "0x" + receipt_id_of(PAYER.address, LANE.address, 1).hex()


@pytest.fixture
def receipt(home: Path) -> str:
    return keep_one(home, OWNER)


def test_receipts_are_listed_from_the_store(lore, receipt: str) -> None:
    (listed,) = json.loads(lore("receipt", "list", "--json").stdout)
    assert (listed["id"], listed["number"], listed["state"]) == (receipt, 1, "vouchered")
    assert listed["verified"] is True
    assert receipt in lore("receipt", "list").stdout


@pytest.mark.parametrize("length", [1, 8, 66])
def test_one_is_shown_by_number_or_beginning_with_its_credits(lore, receipt: str, length: int) -> None:
    shown = lore("receipt", "show", "1" if length == 1 else receipt[:length])
    assert shown.exit_code == 0, shown.stderr
    assert f"id             {receipt}" in shown.stdout
    assert "created        2026-11-" in shown.stdout
    assert "created_ms" not in shown.stdout
    (worker,) = (line for line in shown.stdout.splitlines() if line.startswith("worker "))
    assert OWNER.address.hex() in worker.lower()


def test_an_account_of_this_home_has_its_name(lore, home: Path) -> None:
    receipt = keep_one(home, Keystore(Home(home).create().keys).own().owner)
    shown = json.loads(lore("receipt", "show", receipt, "--json").stdout)
    names = {credit["role"]: credit["name"] for credit in shown["credits"]}
    assert names["worker"] == "own"


def test_the_network_that_up_kept_is_read_when_it_has_ended(lore, home: Path) -> None:
    Home(home).create()
    receipt = keep_one(home / "local" / "you", OWNER)
    assert receipt in lore("receipt", "list").stdout


def test_a_home_without_a_store_has_no_receipts(lore, home: Path) -> None:
    assert lore("receipt", "list").stdout.startswith("no receipts yet; ask something")
    failed = lore("receipt", "show", "1")
    assert failed.stderr == (
        f"error: no node has run in {home} yet; ask something: commonlore ask QUESTION\n"
    )
    assert not home.exists()


def test_a_receipt_is_verified_as_far_as_its_home_knows(lore, receipt: str) -> None:
    verified = lore("receipt", "verify", receipt, "--level", "0", "--json")
    told = json.loads(verified.stdout)
    assert (told["receipt"], told["passed"], told["ended"]) == (receipt, False, None)
    (level,) = told["levels"]
    assert level["showed"][-1] == "WRONG: the output tokens here are not those the receipt commits"
    assert verified.exit_code == 1
