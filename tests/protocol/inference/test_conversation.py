"""The conversation of one request: its table, its two sides against each other, and what breaks it."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import encode_message
from commonlore.protocol.errors import LocalProtocolError, RemoteProtocolError
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import cid_of, keccak256
from commonlore.protocol.inference.conversation import (
    TEXT_ALLOWANCE,
    TEXT_PER_TOKEN,
    InferenceStream,
    Role,
    State,
    refused,
)
from commonlore.protocol.inference.messages import (
    Accepted,
    Ask,
    Cancel,
    ReceiptMessage,
    Refusal,
    RefusalCode,
    TokenChunk,
    VoucherMessage,
)
from commonlore.protocol.inference.transitions import (
    CROSSING,
    ENDS,
    FROM_CLIENT,
    FROM_WORKER,
    TRANSITIONS,
    Event,
)
from commonlore.protocol.receipts.outputs import RunningHash, output_leaves, output_root, pack_tokens
from commonlore.protocol.receipts.records import ReceiptDetails
from commonlore.protocol.receipts.rules import (
    Terms,
    check_receipt,
    compute_receipt,
    make_voucher,
    sign_receipt,
)
from commonlore.protocol.requests.rules import most_prompt_tokens
from commonlore.protocol.signing.eip712 import sign
from commonlore.protocol.signing.keys import AccountKey

LANE_KEY = AccountKey.from_secret(b"\x07" * 32)
ACCEPTED = Accepted(0, True, None)
REFUSAL = Refusal("busy", "full", True)


class Talk:
    """A client and a worker, and what each sends, delivered at once unless held back."""

    def __init__(self, domain, signed_request, session):
        self.domain, self.signed, self.session = domain, signed_request, session
        self.client = InferenceStream(Role.CLIENT, domain)
        self.worker = InferenceStream(Role.WORKER, domain)
        self.previous, self.seq = None, 0

    @property
    def terms(self):
        return Terms(
            self.signed.request, self.client.request_hash, cid_of(b"artefact"), Rates(9, 9, 9), DEFAULT_SPLIT
        )

    def to_worker(self, message):
        return self.worker.receive(self.client.send(message))

    def to_client(self, message):
        return self.client.receive(self.worker.send(message))

    def ask(self):
        return self.to_worker(Ask(self.signed, None))

    def chunk(self, *tokens):
        return self.worker.make_chunk(tokens, "x" * len(tokens))

    def receipt(self, *, final, **changed):
        self.seq += 1
        details = ReceiptDetails(bytes(32), bytes(32), self.signed.request.sampling, "stop")
        receipt = replace(compute_receipt(self.terms, self.worker.step, self.seq, 3, details), **changed)
        return ReceiptMessage(sign_receipt(self.domain, LANE_KEY, receipt, details), final)

    def voucher(self):
        self.previous = make_voucher(self.domain, self.session, self.client.unpaid, self.previous)
        return VoucherMessage(self.previous)

    def start(self, *tokens):
        self.ask()
        self.to_client(ACCEPTED)
        if tokens:
            self.to_client(self.chunk(*tokens))
        return self

    @property
    def states(self):
        return self.client.state, self.worker.state


@pytest.fixture
def talk(domain, signed_request, session):
    return Talk(domain, signed_request, session)


# ---- the table


def test_the_table_is_whole():
    """Each move's event is one its sender has; every state is reached; an end has only crossing moves."""
    moves = {**TRANSITIONS, **CROSSING}
    assert len(moves) == len(TRANSITIONS) + len(CROSSING)
    by_client = {Event.ASK, Event.VOUCHER, Event.CANCEL}
    assert all((event in by_client) == (sender is Role.CLIENT) for _, sender, event in moves)
    assert set(TRANSITIONS.values()) | {State.START, State.BROKEN} == set(State)
    assert not {state for state, _, _ in TRANSITIONS} & ENDS
    assert not set(FROM_CLIENT) & set(FROM_WORKER)


def test_one_side_at_a_time_speaks_but_for_cancels():
    for state in State:
        senders = {sender for at, sender, event in TRANSITIONS if at is state and event is not Event.CANCEL}
        assert len(senders) <= 1


# ---- how it goes


def test_a_short_answer(talk):
    assert talk.ask() == Ask(talk.signed, None)
    talk.to_client(ACCEPTED)
    assert talk.to_client(talk.chunk(5, 6)) == TokenChunk(0, (5, 6), "xx")
    assert talk.to_client(talk.chunk(7)).start == 2
    message = talk.to_client(talk.receipt(final=True))
    check_receipt(talk.domain, message.receipt, talk.terms, talk.client.step)
    talk.to_worker(talk.voucher())
    assert talk.states == (State.DONE, State.DONE)
    talk.client.receive_end()


def test_a_long_answer_in_steps(talk):
    talk.start(*range(32))
    talk.to_client(talk.receipt(final=False))
    assert talk.states == (State.RECEIPTED, State.RECEIPTED)
    talk.to_worker(talk.voucher())
    talk.to_client(talk.chunk(*range(10)))
    assert (talk.client.step.index, talk.client.step.tokens) == (1, tuple(range(10)))
    message = talk.to_client(talk.receipt(final=True))
    check_receipt(talk.domain, message.receipt, talk.terms, talk.client.step)
    talk.to_worker(talk.voucher())
    assert talk.previous.voucher.cumulative == talk.client.step.spent
    assert talk.client.delivered == talk.worker.delivered == 42
    assert talk.states == (State.DONE, State.DONE)


def test_the_last_receipt_may_pay_no_token(talk):
    """An empty answer, or one that ended where a step did."""
    talk.start()
    talk.to_client(talk.receipt(final=True))
    talk.to_worker(talk.voucher())
    assert talk.client.state is State.DONE


def test_a_refusal_ends_it_at_any_turn_of_the_worker(domain, signed_request, session):
    asked = Talk(domain, signed_request, session)
    asked.ask()
    for talk in (asked, Talk(domain, signed_request, session).start(1)):
        assert talk.to_client(REFUSAL) == REFUSAL
        assert talk.states == (State.REFUSED, State.REFUSED)


def test_refusals_become_errors():
    error = refused(REFUSAL)
    assert (error.code, str(error), error.retryable) == ("busy", "full", True)
    assert refused(Refusal("from the future", "?", False)).code == RefusalCode.FAILED


# ---- cancelling


def test_a_cancel_is_answered_with_a_receipt_for_what_was_delivered(talk):
    talk.start(1, 2)
    talk.to_worker(Cancel())
    message = talk.to_client(talk.receipt(final=True))
    assert message.receipt.receipt.output_tokens == 2
    talk.to_worker(talk.voucher())
    assert talk.states == (State.DONE, State.DONE)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_cancel_before_any_token_costs_nothing(talk, accepted):
    talk.start() if accepted else talk.ask()
    talk.to_worker(Cancel())
    with pytest.raises(LocalProtocolError, match="cancelled"):
        talk.worker.send(talk.receipt(final=True))
    talk.to_client(Refusal(RefusalCode.CANCELLED, "as you wish", False))
    assert talk.states == (State.REFUSED, State.REFUSED)


def test_a_worker_that_knows_of_the_cancel_stops(talk):
    talk.start(1)
    talk.to_worker(Cancel())
    for message in (talk.chunk(2), ACCEPTED, talk.receipt(final=False)):
        with pytest.raises(LocalProtocolError, match="any more"):
            talk.worker.send(message)


def test_what_was_under_way_when_the_client_cancelled_still_counts(talk):
    talk.start(1)
    cancel = talk.client.send(Cancel())
    assert talk.to_client(talk.chunk(2, 3)).tokens == (2, 3)
    talk.worker.receive(cancel)
    talk.to_client(talk.receipt(final=True))
    assert talk.client.unpaid.output_tokens == 3


def test_a_cancel_that_crosses_accepted(talk):
    talk.ask()
    cancel = talk.client.send(Cancel())
    talk.to_client(ACCEPTED)
    talk.worker.receive(cancel)
    talk.to_client(Refusal(RefusalCode.CANCELLED, "", False))
    assert talk.states == (State.REFUSED, State.REFUSED)


@pytest.mark.parametrize("final", [False, True])
def test_a_receipt_that_crosses_a_cancel_is_the_last(talk, final):
    talk.start(1)
    cancel = talk.client.send(Cancel())
    talk.to_client(talk.receipt(final=final))
    talk.worker.receive(cancel)
    assert talk.states == (State.SETTLING, State.SETTLING)
    talk.to_worker(talk.voucher())
    assert talk.states == (State.DONE, State.DONE)


def test_a_cancel_instead_of_the_next_step(talk):
    talk.start(1)
    talk.to_client(talk.receipt(final=False))
    talk.to_worker(Cancel())
    talk.to_worker(talk.voucher())
    assert talk.states == (State.DONE, State.DONE)


def test_a_cancel_that_crosses_a_refusal(talk):
    talk.start(1)
    cancel = talk.client.send(Cancel())
    talk.to_client(REFUSAL)
    talk.worker.receive(cancel)
    assert talk.states == (State.REFUSED, State.REFUSED)


# ---- what breaks it


def test_what_has_no_place_is_not_sent_and_changes_nothing(talk):
    with pytest.raises(LocalProtocolError, match="no token chunk may come from the client"):
        talk.client.send(TokenChunk(0, (1,), ""))
    with pytest.raises(LocalProtocolError, match="no accepted"):
        talk.worker.send(ACCEPTED)
    with pytest.raises(LocalProtocolError, match="nothing was asked"):
        talk.worker.make_chunk((1,), "")
    talk.start(1)
    with pytest.raises(LocalProtocolError, match="no voucher"):
        talk.client.send(
            VoucherMessage(
                make_voucher(talk.domain, talk.session, talk.receipt(final=True).receipt.receipt, None)
            )
        )
    assert talk.states == (State.STREAMING, State.STREAMING)
    talk.to_client(talk.chunk(2))


def test_a_worker_waits_for_its_voucher(talk):
    talk.start(1)
    talk.to_client(talk.receipt(final=False))
    for message in (talk.chunk(2), REFUSAL):
        with pytest.raises(LocalProtocolError):
            talk.worker.send(message)


def test_once_broken_nothing_more_is_understood(talk):
    talk.start(1)
    good = talk.worker.send(talk.chunk(2))
    with pytest.raises(RemoteProtocolError):
        talk.client.receive(b"\xff")
    with pytest.raises(RemoteProtocolError, match="broken"):
        talk.client.receive(good)
    with pytest.raises(LocalProtocolError, match="broken"):
        talk.client.send(Cancel())


def test_each_side_hears_only_the_other_s_messages(talk):
    for message in (Ask(talk.signed, None), Cancel()):
        with pytest.raises(RemoteProtocolError, match="unexpected message"):
            InferenceStream(Role.CLIENT, talk.domain).receive(encode_message(message))
    with pytest.raises(RemoteProtocolError, match="unexpected message"):
        talk.worker.receive(encode_message(ACCEPTED))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": 1}, "starts at token 1; 2 were"),
        ({"start": 3}, "starts at token 3; 2 were"),
        ({"running_hash": bytes(32)}, "running hash"),
        ({"tokens": tuple(range(63))}, "65 tokens delivered; the request asks for at most 64"),
        ({"tokens": tuple(range(30))}, "running hash"),
    ],
)
def test_a_chunk_that_does_not_follow_is_refused(talk, change, words):
    talk.start(1, 2)
    chunk = replace(talk.chunk(3), **change)
    with pytest.raises(LocalProtocolError, match=words):
        talk.worker.send(chunk)
    with pytest.raises(RemoteProtocolError, match=words):
        talk.client.receive(encode_message(chunk))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"request_hash": bytes(32)}, "another request"),
        ({"output_tokens": 3}, "output_tokens"),
        ({"output_root": output_root((1, 3))}, "output_root"),
        ({"step": 1}, "step"),
        ({"seq": 0}, "above 0"),
    ],
)
def test_a_receipt_for_anything_but_the_tokens_delivered_is_refused(talk, change, words):
    talk.start(1, 2)
    message = talk.receipt(final=True, **change)
    with pytest.raises(LocalProtocolError, match=words):
        talk.worker.send(message)
    with pytest.raises(RemoteProtocolError, match=words):
        talk.client.receive(encode_message(message))


def test_tokens_that_another_worker_delivered_count_towards_max_tokens(domain, signed_request, session):
    prompt = replace(signed_request.prompt, delivered=tuple(range(62)))
    talk = Talk(domain, replace(signed_request, prompt=prompt), session).start(1, 2)
    with pytest.raises(LocalProtocolError, match="3 tokens delivered; the request asks for at most 2"):
        talk.worker.send(talk.chunk(3))


def test_a_step_without_tokens_has_no_receipt(talk):
    talk.start()
    with pytest.raises(LocalProtocolError, match="without tokens"):
        talk.worker.send(talk.receipt(final=False))


def test_a_voucher_for_another_receipt_is_refused(talk):
    talk.start(1)
    talk.to_client(talk.receipt(final=False))
    paid = talk.voucher().voucher
    voucher = replace(paid.voucher, receipt_hash=bytes(32))
    message = VoucherMessage(
        replace(paid, voucher=voucher, signature=sign(talk.domain, talk.session, voucher))
    )
    with pytest.raises(LocalProtocolError, match="receipt_hash"):
        talk.client.send(message)
    with pytest.raises(RemoteProtocolError, match="receipt_hash"):
        talk.worker.receive(encode_message(message))


def test_a_stream_that_ends_early_is_an_error(talk):
    talk.start(1)
    with pytest.raises(RemoteProtocolError, match="ended while the request was streaming"):
        talk.client.receive_end()
    talk.client.receive_end()  # said once


# ---- commitments to output


@given(st.lists(st.integers(0, 2**32 - 1), max_size=100), st.data())
def test_the_running_hash_does_not_depend_on_how_tokens_are_cut(tokens, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(tokens)), max_size=6)))
    state = RunningHash(b"h" * 32)
    for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True):
        state = state.extend(tokens[start:end])
    assert state == RunningHash(b"h" * 32).extend(tokens)
    expected = b"h" * 32
    for leaf in range(len(tokens) // 32):
        packed = b"".join(token.to_bytes(4, "big") for token in tokens[32 * leaf : 32 * leaf + 32])
        expected = hashlib.sha256(expected + packed).digest()
    assert state.value == expected


def test_only_the_chunk_that_completes_a_leaf_carries_the_hash(talk):
    talk.start()
    chunks = [talk.to_client(talk.chunk(*part)) for part in (range(31), range(2), range(31))]
    hashes = [chunk.running_hash for chunk in chunks]
    first = RunningHash(talk.client.request_hash).extend([*range(31), 0]).value
    assert hashes[:2] == [None, first]
    assert hashes[2] not in (None, first)


def test_output_leaves_hold_32_tokens():
    tokens = list(range(33))
    assert output_leaves(tokens) == [
        keccak256(b"\x00" + pack_tokens(part)) for part in (tokens[:32], tokens[32:])
    ]
    assert output_root(tokens[:32]) == output_leaves(tokens[:32])[0]
    assert output_root([]) == bytes(32)


def test_text_is_bounded_by_its_tokens_and_a_chunk_says_something(talk):
    talk.start()
    running = talk.worker.make_chunk((1,), "").running_hash
    talk.to_client(TokenChunk(0, (1,), "x" * (TEXT_ALLOWANCE + TEXT_PER_TOKEN), running))
    for chunk, words in ((TokenChunk(1, (), "y"), "bytes of text"), (TokenChunk(1, (), ""), "says nothing")):
        with pytest.raises(LocalProtocolError, match=words):
            talk.worker.send(chunk)
    with pytest.raises(RemoteProtocolError, match="bytes of text for 1 tokens"):
        talk.client.receive(encode_message(TokenChunk(1, (), "y")))


def test_no_prompt_is_charged_beyond_its_bytes(talk):
    talk.start(1)
    most = most_prompt_tokens(talk.signed.prompt.messages)
    with pytest.raises(LocalProtocolError, match=f"at most {most} here"):
        talk.worker.send(talk.receipt(final=True, prompt_tokens=most + 1))
    talk.to_client(talk.receipt(final=True, prompt_tokens=most))
