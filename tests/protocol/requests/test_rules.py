"""Requests: who may ask what of whom, and the commitment to the prompt."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.codec import decode, encode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.encoding.merkle import MerkleTree, verify
from commonlore.protocol.errors import InvalidSignature, LocalProtocolError, RemoteProtocolError, Stale
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.requests.records import MAX_OUTPUT_TOKENS, ChatMessage, Prompt, SignedRequest
from commonlore.protocol.requests.rules import (
    MAX_DEADLINE_S,
    MAX_TOP_LOGPROBS,
    PIECE_SIZE,
    check_adapters,
    check_redeemable,
    check_request,
    compute_prompt_root,
    prompt_bytes,
    prompt_leaf,
    request_hash,
    sign_request,
)
from commonlore.protocol.signing.bindings import MAX_CLOCK_SKEW_S
from commonlore.protocol.signing.eip712 import digest
from commonlore.protocol.signing.keys import AccountKey, PeerKey

A, B = cid_of(b"a"), cid_of(b"b")


@pytest.fixture
def asked(domain, session, request_, binding, prompt):
    """A signed request with some fields changed, signed by the session key again."""

    def asked(prompt=prompt, **change):
        request = replace(request_, prompt_root=compute_prompt_root(prompt), **change)
        return SignedRequest(request, session.sign_digest(digest(domain, request)), binding, prompt)

    return asked


def test_a_good_request_may_be_served(domain, signed_request, lane, now, peer_key):
    check_request(domain, signed_request, now, lane)
    check_request(domain, signed_request, now, lane, peer_key.public)
    assert request_hash(domain, signed_request.request) == digest(domain, signed_request.request)


def test_without_adapters_and_with_one(domain, asked, lane, now):
    check_request(domain, asked(adapters=()), now, lane)
    check_request(domain, asked(adapters=(AdapterWeight(A, PPM),)), now, lane)


def test_a_request_is_for_one_lane_deployment_and_peer(domain, other_domain, signed_request, lane, now):
    with pytest.raises(RemoteProtocolError, match="a request for lane"):
        check_request(domain, signed_request, now, Address(b"\x08" * 20))
    with pytest.raises(InvalidSignature):
        check_request(other_domain, signed_request, now, lane)
    with pytest.raises(InvalidSignature, match="another peer than its sender"):
        check_request(domain, signed_request, now, lane, PeerKey.generate(b"\x66" * 32).public)


def test_the_payer_signs_everything(domain, signed_request, lane, now):
    request = signed_request.request
    for change in (
        {"max_price": 1},
        {"request_id": bytes(16)},
        {"base": A},
        {"epoch": 4},
        {"advert_hash": bytes(32)},
        {"sampling": replace(request.sampling, seed=8)},
        {"adapters": request.adapters[::-1]},
        {"disclosure": 0},
    ):
        with pytest.raises(InvalidSignature):
            check_request(domain, replace(signed_request, request=replace(request, **change)), now, lane)
    with pytest.raises(InvalidSignature):
        check_request(domain, replace(signed_request, signature=bytes(65)), now, lane)
    forged = replace(signed_request, request=replace(request, payer=Address(b"\x01" * 20)))
    with pytest.raises(InvalidSignature, match="another session key than its payer"):
        check_request(domain, forged, now, lane)


def test_deadlines_lie_ahead_but_not_far(domain, asked, lane, now):
    for deadline in (now - MAX_CLOCK_SKEW_S + 1, now + 1, now + MAX_DEADLINE_S + MAX_CLOCK_SKEW_S):
        check_request(domain, asked(deadline=deadline), now, lane)
    for deadline in (0, now - MAX_CLOCK_SKEW_S, now + MAX_DEADLINE_S + MAX_CLOCK_SKEW_S + 1, 2**64 - 1):
        with pytest.raises(Stale, match="deadline"):
            check_request(domain, asked(deadline=deadline), now, lane)


def test_bindings_last_until_vouchers_are_redeemed(domain, signed_request, lane):
    ends = signed_request.binding.binding.not_after
    check_redeemable(signed_request, ends)
    with pytest.raises(Stale, match="must last until"):
        check_redeemable(signed_request, ends + 1)


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        (((A, 500_000), (A, 500_000)), "the same adapter twice"),
        (((A, PPM), (B, 0)), "weight 0"),
        (((A, PPM - 1),), "999999 ppm"),
        (((A, PPM), (B, 1)), "1000001 ppm"),
    ],
)
def test_adapter_weights_make_the_whole(domain, asked, lane, now, adapters, words):
    with pytest.raises(RemoteProtocolError, match=words):
        check_request(domain, asked(adapters=tuple(AdapterWeight(*pair) for pair in adapters)), now, lane)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"max_tokens": MAX_OUTPUT_TOKENS + 1}, "max_tokens"),
        ({"top_p_ppm": 0}, "top_p"),
        ({"top_p_ppm": PPM + 1}, "top_p"),
        ({"min_p_ppm": PPM + 1}, "min_p"),
        ({"repetition_penalty_ppm": 0}, "repetition penalty"),
    ],
)
def test_sampling_has_bounds(domain, asked, request_, lane, now, change, words):
    with pytest.raises(RemoteProtocolError, match=words):
        check_request(domain, asked(sampling=replace(request_.sampling, **change)), now, lane)


def test_disclosure_is_a_known_word(domain, asked, lane, now):
    with pytest.raises(RemoteProtocolError, match=r"disclosure 3 is none of \[0, 1, 2\]"):
        check_request(domain, asked(disclosure=3), now, lane)


def test_prompts_have_bounds(domain, asked, prompt, lane, now):
    with pytest.raises(RemoteProtocolError, match="log-probabilities"):
        check_request(domain, asked(replace(prompt, top_logprobs=MAX_TOP_LOGPROBS + 1)), now, lane)
    with pytest.raises(RemoteProtocolError, match="empty stop text"):
        check_request(domain, asked(replace(prompt, stop=("",))), now, lane)


def test_another_prompt_is_not_the_one_committed(domain, signed_request, prompt, lane, now):
    for change in (
        {"salt": bytes(32)},
        {"messages": (*prompt.messages, ChatMessage("assistant", ""))},
        {"messages": (ChatMessage("system", prompt.messages[0].content),)},
        {"stop": ()},
        {"delivered": (1,)},
        {"top_logprobs": 1},
    ):
        with pytest.raises(RemoteProtocolError, match="not the one that the request commits"):
            check_request(domain, replace(signed_request, prompt=replace(prompt, **change)), now, lane)


def test_nothing_inconsistent_is_signed(domain, session, request_, binding, prompt):
    other = AccountKey.from_secret(b"\x0f" * 32)
    for key, request in ((other, request_), (session, replace(request_, payer=other.address))):
        with pytest.raises(LocalProtocolError, match="bound session key"):
            sign_request(domain, key, request, binding, prompt)
    with pytest.raises(LocalProtocolError, match="not the one that the request commits"):
        sign_request(domain, session, request_, binding, replace(prompt, stop=()))


# ---- the prompt root

prompts = st.builds(
    Prompt,
    salt=st.binary(min_size=32, max_size=32),
    messages=st.lists(
        st.builds(ChatMessage, st.sampled_from(("system", "user")), st.text(max_size=3000)),
        min_size=1,
        max_size=3,
    ).map(tuple),
)


@given(prompt=prompts)
@settings(max_examples=40)
def test_each_piece_can_be_opened_alone(prompt):
    data = prompt_bytes(prompt)
    pieces = [data[i : i + PIECE_SIZE] for i in range(0, len(data), PIECE_SIZE)]
    tree = MerkleTree(prompt_leaf(prompt.salt, i, piece) for i, piece in enumerate(pieces))
    root = compute_prompt_root(prompt)
    assert tree.root == root
    for i, piece in enumerate(pieces):
        assert verify(root, prompt_leaf(prompt.salt, i, piece), i, len(pieces), tree.proof(i))
        assert not verify(root, prompt_leaf(bytes(32), i, piece), i, len(pieces), tree.proof(i)) or not any(
            prompt.salt
        )


def test_prompt_bytes_hold_all_but_the_salt(prompt):
    assert decode(Prompt, prompt_bytes(prompt)) == replace(prompt, salt=bytes(32))
    assert prompt.salt not in prompt_bytes(prompt)
    assert len(prompt_bytes(prompt)) == len(encode(prompt))


def test_no_more_adapters_than_a_request_can_name() -> None:
    many = tuple(AdapterWeight(cid_of(bytes([number])), PPM // 10) for number in range(10))
    with pytest.raises(RemoteProtocolError, match="10 adapters; at most 8"):
        check_adapters(many)
    check_adapters(tuple(replace(each, weight_ppm=PPM // 8) for each in many[:8]))
