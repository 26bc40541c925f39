"""By which rows is measured: drawn, alike to the queries, and the same for everybody."""

from __future__ import annotations

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.worker.attribution.measured_rows import deal_rows, draw_rows
from commonlore.worker.factory.job import Pair

WANTED = (24, 10)


def texts(count: int, of: str = "row") -> list[str]:
    return [f"{of} {number} about topic{number % 7}" for number in range(count)]


@pytest.mark.parametrize(
    ("indexed", "others", "drawn"),
    [
        (100, 20, (24, 10, 0)),
        (100, 5, (24, 5, 5)),
        (30, 0, (23, 0, 7)),
        (5, 1, (4, 1, 1)),
        (5_000, 0, (24, 0, 10)),
    ],
)
def test_queries_are_rows_that_no_half_has(indexed: int, others: int, drawn: tuple[int, int, int]) -> None:
    given = texts(indexed), texts(others, "other")
    found = draw_rows(*given, WANTED, b"seed")
    assert (len(found.rows), found.others, len(found.aside)) == drawn
    assert len({*found.rows, *found.aside}) == len(found.rows) + len(found.aside)
    assert max(*found.rows, *found.aside, 0) < indexed
    assert found == draw_rows(*given, WANTED, b"seed")


def test_halves_are_of_the_rows_that_are_most_alike_to_the_queries() -> None:
    others = ["what is topic3?", "what is topic5?"]
    found = draw_rows(texts(100), others, (8, 2), b"seed")
    assert found.aside == ()
    assert sorted(place % 7 for place in found.rows) == [3] * 4 + [5] * 4
    assert found != draw_rows(texts(100), others, (8, 2), b"another seed"), "ties are drawn"
    nothing = draw_rows(texts(100), ["zzz", "yyy"], (8, 2), b"seed")
    assert len(nothing.rows) == 8, "any, where none is alike"


@pytest.mark.parametrize(("indexed", "others"), [(3, 9), (0, 0), (0, 5), (5, 0)])
def test_too_few_rows_are_refused(indexed: int, others: int) -> None:
    with pytest.raises(ConfigError, match="too small to be measured"):
        draw_rows(texts(indexed), texts(others, "other"), WANTED, b"seed")


def test_a_null_adapters_rows_have_nothing_to_do_with_the_rows_in_whose_place_they_stand() -> None:
    rows = [Pair(f"question {number}", f"answer {number}") for number in range(20)]
    dealt = deal_rows(rows, b"seed")
    assert sorted(pair.question for pair in dealt) == sorted(pair.question for pair in rows)
    assert sorted(pair.answer for pair in dealt) == sorted(pair.answer for pair in rows)
    for own, given in zip(rows, dealt, strict=True):
        assert given.question != own.question
        assert given.answer != own.answer
        assert given.question.split()[1] != given.answer.split()[1]
    assert dealt == deal_rows(rows, b"seed") != deal_rows(rows, b"other")
