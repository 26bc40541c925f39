"""JSON from outside, field by field."""

import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.peer.gateway.chat_request import read_chat_request
from commonlore.peer.gateway.errors import InvalidRequest
from commonlore.peer.gateway.fields import MAX_DEPTH, Fields, parse_json

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def entropy(count: int) -> bytes:
    return b"\x07" * count


WRONG = [
    ({"model": None}, "model", "is missing"),
    ({"model": 5}, "model", "is 5; expected text"),
    ({"model": ""}, "model", "has 0 bytes"),
    ({"model": "m" * 2_049}, "model", "has 2049 bytes; expected 1 to 2048"),
    ({"messages": None}, "messages", "is missing"),
    ({"messages": []}, "messages", "has 0 items; expected 1 to 256"),
    ({"messages": {}}, "messages", "is an object; expected a list"),
    ({"messages": ["hi"]}, "messages[0]", 'is "hi"; expected an object'),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "is missing"),
    (
        {"messages": [{"role": "function", "content": "hi"}]},
        "messages[0].role",
        "is 'function'; expected one of system",
    ),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "is 7; expected text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "lone surrogate at 0"),
    ({"messages": [{"role": "user", "content": "x" * 65_537}]}, "messages[0].content", "65537 bytes"),
    ({"messages": [{"role": "user", "content": "é" * 32_769}]}, "messages[0].content", "65538 bytes"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
        "only parts of type text",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]},
        "messages[0].tool_calls[0].function",
        "is missing",
    ),
    ({"temperature": 2.5}, "temperature", "is 2.5; expected a number from 0 to 2"),
    ({"temperature": "hot"}, "temperature", 'is "hot"'),
    ({"temperature": True}, "temperature", "is true"),
    ({"temperature": math.inf}, "temperature", "is not a finite number"),
    ({"top_p": -0.1}, "top_p", "expected a number from 0 to 1"),
    ({"top_k": 1.5}, "top_k", "is 1.5; expected a whole number from -1"),
    ({"seed": 1 << 64}, "seed", "expected a whole number"),
    ({"seed": 10**60}, "seed", "is a huge number"),
    ({"max_tokens": 0}, "max_tokens", "expected a whole number from 1 to 8192"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "is 5 but max_completion_tokens 6"),
    ({"stop": ["a"] * 9}, "stop", "has 9 items; expected 0 to 8"),
    ({"stop": ["a", ""]}, "stop[1]", "has 0 bytes"),
    ({"stop": 3}, "stop", "is 3; expected a list"),
    ({"stream": "yes"}, "stream", 'is "yes"; expected true or false'),
    ({"stream_options": {"include_usage": True}}, "stream_options", "is only for stream: true"),
    ({"stream": True, "stream_options": {"usage": 1}}, "stream_options.usage", "is not supported here"),
    ({"top_logprobs": 3}, "top_logprobs", "needs logprobs: true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "expected a whole number from 0 to 20"),
    ({"n": 2}, "n", "is not supported here; leave it out or send 1"),
    ({"presence_penalty": 0.5}, "presence_penalty", "is not supported here; leave it out or send 0"),
    ({"foo": 1}, "foo", "is not supported here"),
]


@pytest.mark.parametrize(("changes", "param", "says"), WRONG)
def test_a_wrong_field_is_named_with_what_would_be_right(changes, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_chat_request(Fields({**CHAT, **changes}), entropy)
    assert raised.value.param == param
    assert str(raised.value).startswith(param)
    assert says in str(raised.value)


def test_what_asks_for_nothing_is_taken() -> None:
    neutral = {
        "n": 1,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "presence_penalty": 0.0,
        "frequency_penalty": 0,
        "logit_bias": {},
        "foo": None,
        "user": "u-1",
        "metadata": {"a": "b"},
        "stop": None,
        "seed": None,
        "temperature": None,
        "stream": None,
        "top_k": -1,
    }
    replayed = {"role": "assistant", "content": "x", "refusal": None, "tool_calls": [], "name": "bot"}
    body = {**CHAT, **neutral, "messages": [replayed, *CHAT["messages"]]}
    plain = read_chat_request(Fields(CHAT), entropy)
    wanted = read_chat_request(Fields(body), entropy)
    assert (wanted.sampling, wanted.stop, wanted.stream) == (plain.sampling, (), False)
    assert plain.sampling.seed == int.from_bytes(entropy(8), "big")


def test_whole_numbers_may_be_written_as_fractions() -> None:
    wanted = read_chat_request(Fields({**CHAT, "max_tokens": 5.0, "seed": 3.0}), entropy)
    assert (wanted.sampling.max_tokens, wanted.sampling.seed) == (5, 3)


def test_depth_is_bounded_at_its_limit() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    assert parse_json(nested(MAX_DEPTH))
    with pytest.raises(InvalidRequest, match="deeper"):
        parse_json(nested(MAX_DEPTH + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["model", "messages", "stop", "seed", "temperature", "stream", "stream_options", "n"])


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(NAMES | st.text(max_size=6), JSON, max_size=5))
def test_any_object_is_a_request_or_one_typed_error(changes) -> None:
    try:
        wanted = read_chat_request(Fields({**CHAT, **changes}), entropy)
    except InvalidRequest as wrong:
        assert wrong.param is not None  # noqa: PT017 - most objects are not wrong
    else:
        assert 0 <= wanted.sampling.seed < 1 << 64


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_an_object_or_one_typed_error(data: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse_json(data), dict)
