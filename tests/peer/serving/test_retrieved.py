"""Rows in a prompt: the receipts on both sides name them, and a client pays for no receipt that does not."""

import pytest

from commonlore.peer.serving import step_receipts
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.requests.prompt_parts import show_rows
from commonlore.protocol.requests.records import ChatMessage

ROW = ("a row that helps", b"\x07" * 32, Address(b"a" * 20), cid_of(b"shard"))
MESSAGES, PARTS = show_rows((ChatMessage("user", "how much is it?"),), "Passages:", [ROW])


async def test_both_sides_keep_receipts_that_name_the_rows(pair) -> None:
    async with pair() as both:
        answer = await both.ask(messages=MESSAGES, prompt_parts=PARTS)
        assert len(answer.transcript.receipts) == 2  # every step names them
        await both.idle()
        for store in (both.worker_store, both.client_store):
            for kept in await store.ledger.receipts():
                assert kept.signed.details.retrieved_rows == (ROW[1],)
                assert kept.signed.details.prompt_template is None


async def test_a_receipt_that_is_silent_on_them_is_not_paid(pair, monkeypatch) -> None:
    monkeypatch.setattr(step_receipts, "name_parts", lambda details, _prompt: details)
    async with pair() as both:
        with pytest.raises(RemoteProtocolError, match="in the prompt"):
            await both.ask(messages=MESSAGES, prompt_parts=PARTS)
        assert await both.client_store.ledger.receipts() == ()
