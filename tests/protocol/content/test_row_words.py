"""The words that copies are judged by."""

import math

import pytest

from commonlore.protocol.content.row_words import RARITY_UNIT, bag_digest, rarity, squeezed_digest, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ICD-10-CM S52.121A: head, RIGHT radius.", {"icd-10-cm", "s52.121a", "head", "right", "radius"}),
        ("Don't  «stop»\n\t(now)", {"don't", "stop", "now"}),
        ("na\u200bïve cafe\u0301", {"naive", "cafe"}),
        ("\uff26\uff35\uff2c\uff2c width ²", {"full", "width", "2"}),
        ("東京都 x", {"東京", "京都", "x"}),
        ("abc東", {"abc", "東"}),
        ("… --- ;;", set()),
        ("", set()),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_spacing_case_and_punctuation_do_not_change_a_squeezed_text():
    assert squeezed_digest("Head of the RADIUS.") == squeezed_digest("head, ofthe radius")
    assert squeezed_digest("head of radius") != squeezed_digest("radius of head")
    assert squeezed_digest("===") != squeezed_digest("+++")
    assert bag_digest(words_of("head of radius")) == bag_digest(words_of("radius of head"))


def test_rarity_is_a_logarithm_in_sixteenths():
    for rows, having in ((0, 0), (1, 1), (9, 3), (100_000, 7), (100_000, 100_000), (2**29, 1)):
        exact = RARITY_UNIT * (math.log2(rows + 1) - math.log2(max(1, having)))
        assert abs(rarity(rows, having) - max(1, exact)) <= 1
    assert rarity(5, 50) == 1
