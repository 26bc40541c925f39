from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from commonlore.worker.engine.batching.text import TextStream
from commonlore.worker.models.chat import ChatTokenizer
from commonlore.worker.models.reference import BaseModel

TEXT = "Grüße, the 日本語 and 🎉👩‍👩‍👧 — naïve façade.\n\n\tEnd of it"


@pytest.fixture(scope="module")
def tokenizer(tiny: BaseModel) -> ChatTokenizer:
    return tiny.tokenizer()


def feed(stream: TextStream, tokens: list[int]) -> list[str]:
    return [stream.push(token) for token in tokens] + [stream.finish()]


def test_the_parts_make_the_whole_and_no_part_holds_half_a_character(tokenizer: ChatTokenizer) -> None:
    parts = feed(TextStream(tokenizer.decode, ()), tokenizer.encode(TEXT))
    assert "".join(parts) == TEXT
    assert not any("\ufffd" in part for part in parts)


def test_any_tokens_decode_as_they_would_at_once(tokenizer: ChatTokenizer) -> None:
    chance = random.Random(5)
    for _ in range(50):
        tokens = [chance.randrange(3, 300) for _ in range(40)]
        assert "".join(feed(TextStream(tokenizer.decode, ()), tokens)) == tokenizer.decode(tokens)


def test_bytes_that_never_become_a_character_are_given_out(tokenizer: ChatTokenizer) -> None:
    broken = tokenizer.encode("日")[:2] * 40
    parts = feed(TextStream(tokenizer.decode, ()), broken)
    assert len("".join(parts[:-1])) > 0
    assert "".join(parts) == tokenizer.decode(broken)


def test_special_tokens_are_silent(tokenizer: ChatTokenizer) -> None:
    tokens = [*tokenizer.encode("one"), 1, 2, 1, *tokenizer.encode(" two")]
    assert "".join(feed(TextStream(tokenizer.decode, ()), tokens)) == "one two"


def test_silence_is_not_decoded_again_and_again(tokenizer: ChatTokenizer) -> None:
    lengths: list[int] = []

    def decode(tokens: Sequence[int]) -> str:
        lengths.append(len(tokens))
        return tokenizer.decode(tokens)

    tokens = [*tokenizer.encode("one"), *[1, 2] * 200, *tokenizer.encode(" 日 two")]
    assert "".join(feed(TextStream(decode, ()), tokens)) == "one 日 two"
    assert max(lengths) < 40


@pytest.mark.parametrize("stop", ["and 🎉", "日本", "the", "\n\n", "f", "façade.\n\n\tEnd of it"])
def test_a_stop_string_ends_the_text_before_it(tokenizer: ChatTokenizer, stop: str) -> None:
    stream = TextStream(tokenizer.decode, ("never in it", stop))
    parts = feed(stream, tokenizer.encode(TEXT))
    assert stream.stopped
    assert "".join(parts) == TEXT[: TEXT.index(stop)]


def test_the_earliest_stop_string_wins(tokenizer: ChatTokenizer) -> None:
    parts = feed(TextStream(tokenizer.decode, ("façade", "naïve", "日本語 and")), tokenizer.encode(TEXT))
    assert "".join(parts) == "Grüße, the "


def test_what_might_begin_a_stop_string_is_held_back_and_then_released(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(tokenizer.decode, ("the end",))
    said = [
        "".join(stream.push(token) for token in tokenizer.encode(text))
        for text in ("then ", "the ", "e", "x")
    ]
    assert said == ["then ", "", "", "the ex"]
    assert stream.finish() == ""


def test_what_is_held_back_comes_out_at_the_end(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(tokenizer.decode, ("###",))
    assert "".join(feed(stream, tokenizer.encode("a ##"))) == "a ##"
    assert not stream.stopped
