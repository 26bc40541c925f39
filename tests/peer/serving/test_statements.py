"""What a client knows of who earns what: its receipt's worker is asked until it has said all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from commonlore.contracts.staging.cast import MANIFEST
from commonlore.peer.attribution.statements import Statements
from commonlore.peer.settling.crediting import NetworkAccounts
from commonlore.protocol.attribution.scoring import prior_weights
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import PeerId, ReceiptId, cid_of
from commonlore.protocol.receipts.records import AttributionStatement
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import PeerKey

WORKER = PeerKey.generate(bytes([1]) * 32)


async def test_a_worker_that_has_scored_by_one_adapter_is_asked_for_the_others(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair() as p:
        manifests = [replace(MANIFEST, name=name, base=cid_of(b"base")) for name in ("one", "two")]
        adapters = [p.publish(manifest) for manifest in manifests]
        await p.ask(adapters=tuple(AdapterWeight(each, PPM // 2) for each in sorted(adapters)))
        store = p.client_store
        receipt_id = ReceiptId((await store.ledger.receipts())[0].receipt_hash)
        accounts = NetworkAccounts(MANIFEST.author_payee, MANIFEST.author_payee)
        statements = Statements(p.parts.rpc, store.records, store.ledger, p.parts.catalog, accounts)
        asked = 0

        async def fetch(peer: PeerId, receipt_hash: bytes) -> bool:
            """Each time the worker has scored by one more of them."""
            nonlocal asked
            assert (peer, receipt_hash) == (p.offer.peer, receipt_id)
            said = AttributionStatement(
                receipt_hash, adapters[asked], None, "prior", bytes(32), prior_weights(manifests[asked])
            )
            asked += 1
            await store.records.put_statement(open_sealed(seal(WORKER, said), (AttributionStatement,)))
            return True

        monkeypatch.setattr(statements, "fetch", fetch)
        for so_far in (1, 2, 2):
            credits = await statements.credits(receipt_id)
            assert asked == so_far
        assert sum(credit.amount for credit in credits.credits) == credits.receipt.receipt.price
