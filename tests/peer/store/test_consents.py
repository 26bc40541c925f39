"""Answers that wait to be scored are there after a restart, without their prompts written twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commonlore.peer.attribution.attributing import waiting_step
from commonlore.peer.store.consents import Consents
from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import NotFound
from commonlore.protocol.ids import Address, RequestId, cid_of
from commonlore.protocol.requests.records import (
    ChatMessage,
    Disclosure,
    InferenceRequest,
    Prompt,
    Sampling,
    SignedRequest,
)
from commonlore.protocol.signing.bindings import PeerBinding, SignedBinding

PAYER, LANE = Address(b"\x01" * 20), Address(b"\x02" * 20)
BINDING = SignedBinding(PeerBinding(PAYER, LANE, bytes(32), 1, 2), bytes(65), bytes(65), bytes(64))


def signed_by_payer(prompt):
    request = InferenceRequest(
        RequestId(b"r" * 16), PAYER, LANE, cid_of(b"base"), (AdapterWeight(cid_of(b"adapter"), PPM),),
        bytes(32), Sampling(seed=1, max_tokens=8), bytes(32), 100, 0, 9, Disclosure.AUDIT_AND_ATTRIBUTION,
    )  # fmt: skip
    return SignedRequest(request, bytes(65), BINDING, prompt)


async def issue(store, make, seq, step):
    """A paid receipt of one answer's step."""
    new = make.new_receipt(seq)
    receipt = replace(new.signed.receipt, step=step)
    new = replace(new, signed=replace(new.signed, receipt=receipt), receipt_hash=bytes([seq]) * 32)
    await store.ledger.record_receipt(Role.WORKER, new)
    await store.ledger.record_voucher(Role.WORKER, make.pays(new, 10 * seq))
    return new


async def test_what_waits_outlives_the_node(path, make):
    async with make.opened(path) as store:
        one, two = await issue(store, make, 1, 0), await issue(store, make, 2, 1)
        signed = signed_by_payer(two.prompt)
        for each in (one, two):
            await store.consents.keep(each.receipt_hash, signed)
    async with make.opened(path) as store:
        step = await waiting_step(store, two.receipt_hash)
        assert step is not None
        assert (step.request, step.signed, step.tokens) == (signed, two.signed, two.tokens)
        assert step.before == one.tokens
        await store.consents.drop(two.receipt_hash)
        assert await waiting_step(store, two.receipt_hash) is None
        assert await waiting_step(store, bytes(32)) is None
        first = await waiting_step(store, one.receipt_hash)
        assert first is not None
        assert first.before == ()


async def test_an_answer_with_a_step_missing_is_not_guessed_at(path, make):
    async with make.opened(path) as store:
        two = await issue(store, make, 1, 1)
        await store.consents.keep(two.receipt_hash, signed_by_payer(two.prompt))
        with pytest.raises(NotFound, match="earlier step"):
            await waiting_step(store, two.receipt_hash)


async def test_the_oldest_give_way_and_no_prompt_is_kept_twice(path, make):
    async with make.opened(path) as store:
        consents = Consents(store.ledger._database, most=2)
        secret = Prompt(bytes(32), (ChatMessage("user", "a secret"),))
        for number in range(4):
            await consents.keep(bytes([number]) * 32, signed_by_payer(secret))
        found = [await consents.signed(bytes([number]) * 32, secret) is not None for number in range(4)]
        assert found == [False, False, True, True]
    assert b"a secret" not in b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
