"""Spans: what an answer has word for word from rows, the rarest first."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.row_words import words_in_order
from commonlore.worker.attribution.spans import LEAST_WORDS, MAX_PLACES, SpanIndex, SpanPlace, find_spans

FIRST = SpanIndex(["The perch swims in cold rivers.", "The ash loses its leaves in October."])
SECOND = SpanIndex(["A perch swims in cold rivers too.", "", "It is said that the jay sings at dawn"])
few = st.lists(st.sampled_from("abc"), max_size=12)


def test_the_longest_runs_are_found_in_every_shard():
    spans = find_spans("He said: the perch swims in cold rivers, and the jay sings at dawn.", [FIRST, SECOND])
    assert [span.text for span in spans] == ["the jay sings at dawn", "the perch swims in cold rivers"]
    jay, perch = spans
    assert (jay.count, jay.places) == (1, (SpanPlace(1, 2),))
    assert (perch.count, perch.places) == (1, (SpanPlace(0, 0),))
    assert (perch.start, perch.end) == (2, 8)
    [shared] = find_spans("perch swims in cold rivers", [FIRST, SECOND])
    assert (shared.count, shared.places) == (2, (SpanPlace(0, 0), SpanPlace(1, 0)))


def test_runs_do_not_cross_rows_and_short_ones_say_nothing():
    assert find_spans("rivers the ash", [FIRST]) == []
    assert find_spans("in October", [FIRST]) == []
    assert find_spans("", [FIRST]) == []
    assert find_spans("perch swims in", []) == []
    assert find_spans("a b c", [SpanIndex([])]) == []


def test_what_many_rows_say_is_not_rare():
    template = [f"what is the code of thing{n}" for n in range(50)]
    index = SpanIndex([*template, "quartz vein glitters blue"])
    spans = find_spans("what is the code of it? the quartz vein glitters blue", [index])
    assert [span.text for span in spans] == ["quartz vein glitters blue", "what is the code of"]
    assert spans[0].bits > 4 * spans[1].bits
    assert spans[1].count == 50
    assert len(spans[1].places) == MAX_PLACES


def test_a_shuffled_decoy_has_no_long_runs():
    rng = random.Random(1)
    rows = [" ".join(rng.sample([f"w{n}" for n in range(200)], 12)) for _ in range(20)]
    decoys = SpanIndex([" ".join(rng.sample(row.split(), 12)) for row in rows])
    assert all(len(find_spans(row, [SpanIndex(rows)])[0].text.split()) == 12 for row in rows)
    assert max((len(s.text.split()) for row in rows for s in find_spans(row, [decoys])), default=0) <= 4


@settings(max_examples=60, deadline=None)
@given(st.lists(few, max_size=4), few)
def test_spans_are_what_a_search_by_hand_finds(rows, answer):
    texts = [" ".join(row) for row in rows]
    index = SpanIndex(texts)
    for start in range(len(answer)):
        runs = [" ".join(answer[start:end]) for end in range(start + 1, len(answer) + 1)]
        said = [run for run in runs if any(f" {run} " in f" {text} " for text in texts)]
        length, places = index.longest_run(answer[start:])
        assert length == len(said)
        assert all(" ".join(answer[start : start + length]) in texts[row] for row in places)
    for span in find_spans(" ".join(answer), [index]):
        assert span.end - span.start >= LEAST_WORDS
        assert words_in_order(span.text) == answer[span.start : span.end]


texts = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9).map(" ".join), max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=2, max_size=4), st.data(), st.lists(st.sampled_from("abcd"), max_size=12))
def test_without_a_shard_spans_are_those_of_a_datanet_that_never_had_it(shards, data, words):
    """Nothing of a withdrawn shard stays in counts or rarities: indexes are added up, never merged."""
    gone = data.draw(st.integers(0, len(shards) - 1))
    indexes = [SpanIndex(rows) for rows in shards]
    left = indexes[:gone] + indexes[gone + 1 :]
    never = SpanIndex([row for at, rows in enumerate(shards) if at != gone for row in rows])
    found, expected = (find_spans(" ".join(words), each) for each in (left, [never]))
    assert [(s.text, s.count, s.bits) for s in found] == [(s.text, s.count, s.bits) for s in expected]


def test_a_hundred_thousand_words_are_searched_at_once():
    rng = random.Random(2)
    words = [f"w{n}" for n in range(5_000)]
    rows = [" ".join(rng.choices(words, k=10)) for _ in range(10_000)]
    spans = find_spans(" ".join((rows[7], rows[9_999])), [SpanIndex(rows)])
    assert {place.row for span in spans[:2] for place in span.places} == {7, 9_999}


@pytest.mark.parametrize("text", ["東京都に行く", "naïve café résumé is here"])
def test_other_scripts_have_spans(text):
    assert find_spans(text, [SpanIndex(["x", text])])[0].places == (SpanPlace(0, 1),)
