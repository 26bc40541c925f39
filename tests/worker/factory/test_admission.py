"""Noise is refused where the base can tell it from language, and nobody where it cannot."""

import random

import pytest

from commonlore.protocol.errors import ConfigError, TrainingFailed
from commonlore.worker.factory.admission import (
    ROWS_EACH,
    in_other_order,
    plan_admission,
    read_admission,
    read_gains,
    refused,
    write_admission,
)
from commonlore.worker.factory.job import Pair
from commonlore.worker.factory.run import main
from commonlore.worker.models.tiny import build_tiny

TEXT = [2.0, 1.6, 2.4, 1.9]
NOISE = [0.1, -0.2, 0.05, -0.1]
LONG = Pair("What is it?", "one two three four five six seven")


@pytest.mark.parametrize(
    ("gains", "out"),
    [
        ([TEXT, TEXT, NOISE], [2]),
        ([NOISE, TEXT, TEXT], [0]),
        ([TEXT, TEXT, [0.9, 1.1, 0.8]], []),  # less than others, and language all the same
        ([TEXT, NOISE], [1]),
        ([NOISE, NOISE, NOISE], []),  # the base cannot tell
        ([TEXT, NOISE, NOISE, NOISE], []),  # nor where most are alike
        ([TEXT], []),
        ([TEXT, TEXT, [0.0]], []),  # too little to judge
        ([], []),
    ],
)
def test_who_is_refused(gains, out):
    assert refused(gains) == out


def test_another_order_has_the_same_words_and_is_always_the_same():
    other = in_other_order(LONG)
    assert sorted(other.answer.split()) == sorted(LONG.answer.split())
    assert other == in_other_order(LONG)
    assert other.answer != LONG.answer
    assert other.question == LONG.question


def test_a_few_rows_of_each_are_measured(tmp_path):
    rows = [Pair("?", f"this is row number {n} of many") for n in range(100)]
    job = plan_admission(tmp_path, [rows, rows[:3], [Pair("?", "too short")]])
    assert [len(own) for own in job.samples] == [ROWS_EACH, 3, 0]
    write_admission(tmp_path / "job", job)
    assert read_admission(tmp_path / "job") == job
    with pytest.raises(ConfigError, match="no admission test"):
        read_admission(tmp_path)
    with pytest.raises(TrainingFailed, match="no result"):
        read_gains(tmp_path)


def test_rows_are_measured_by_the_base(tmp_path, capsys):
    base = build_tiny(tmp_path / "cache")
    words = ("river", "bird", "sings", "in", "cold", "stone", "water", "at", "dawn", "under", "trees")
    rows = [Pair("?", " ".join(random.Random(n).choices(words, k=300 if n == 2 else 8))) for n in range(3)]
    write_admission(tmp_path / "job", plan_admission(base.directory, [rows, rows[:1], []]))
    assert main([str(tmp_path / "job"), "--admit"]) == 0
    gains = read_gains(tmp_path / "job")
    assert [len(own) for own in gains] == [3, 1, 0]
    assert gains[0][0] == gains[1][0]
    assert refused(gains) == []
    assert '"stage": "admitting"' in capsys.readouterr().out
