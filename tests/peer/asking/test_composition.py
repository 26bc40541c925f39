"""Adapters with weights as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonlore.peer.asking.answers import ask_options
from commonlore.peer.asking.composition import (
    is_composition,
    read_composition,
    read_ppm,
    read_weighted,
    write_weight,
    write_weighted,
)
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError
from commonlore.protocol.ids import cid_of


@pytest.mark.parametrize(
    ("texts", "weighted"),
    [
        (["a/b"], (("a/b", PPM),)),
        (["a/b=1"], (("a/b", PPM),)),
        (["a/b=0.7", "c/d=0.3"], (("a/b", 700_000), ("c/d", 300_000))),
        (["a/b=0.7+c/d=0.3"], (("a/b", 700_000), ("c/d", 300_000))),
        (["c", "b", "a"], (("c", 333_333), ("b", 333_333), ("a", 333_334))),
    ],
)
def test_a_composition_is_read(texts: list[str], weighted: object) -> None:
    assert read_composition(texts) == weighted


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["a=0.7"], "the weights of a add up to 0.7; they must make 1"),
        (["a=0.5", "b=0.500001"], "the weights of a and b add up to 1.000001; they must make 1"),
        (["a=0.5", "b"], "'b' has no weight and others have; write b=0.5, say"),
        (["a=0.5", "a=0.5"], "the adapter 'a' twice"),
        (["=0.5", "a=0.5"], "no adapter's name in '=0.5'"),
        (list("abcdefghi"), "9 adapters at once; at most 8"),
    ],
)
def test_what_is_no_composition(texts: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_composition(texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-1",
        "+1",
        "NaN",
        "inf",
        "1e3",
        "0.0000001",
        "1234567",
        ".",
        "1.",
        "1,5",
        "\uff11",
        "0x1",
    ],
)
def test_what_is_no_weight(text: str) -> None:
    with pytest.raises(ConfigError, match=r"the weight is '.*'; expected a positive number with at most six"):
        read_ppm(text, "the weight")


@given(st.integers(1, 999_999 * PPM))
def test_a_weight_survives_being_written(ppm: int) -> None:
    assert read_ppm(write_weight(ppm), "it") == ppm


def test_adapters_are_written_as_they_can_be_typed_again() -> None:
    first, second = cid_of(b"a"), cid_of(b"b")
    names = {first: "alice/icd10"}.get
    both = (AdapterWeight(first, 1_250_000), AdapterWeight(second, 300_000))
    written = write_weighted(both, names)
    assert written == f"alice/icd10=1.25+{second}=0.3"
    assert read_weighted([written]) == (("alice/icd10", 1_250_000), (second, 300_000))
    assert write_weighted((AdapterWeight(first, PPM),), names) == "alice/icd10"
    assert write_weighted((), names) is None
    assert [is_composition(text) for text in ("alice/icd10", "a=1", "a+b")] == [False, True, True]


def test_a_program_asks_in_the_same_words() -> None:
    assert ask_options("?", "a/b=0.7+c/d=0.3").adapters == (("a/b", 700_000), ("c/d", 300_000))
    assert ask_options("?", "a/b").adapters == (("a/b", PPM),)
    assert ask_options("?").adapters == ()
