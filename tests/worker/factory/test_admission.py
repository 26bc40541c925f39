"""Noise is refused where it can be told from language, and nobody where it cannot."""

import random

import pytest

from commonlore.protocol.errors import ConfigError, TrainingFailed
from commonlore.worker.factory.admission import (
    LEARNT_ROWS,
    ROWS_EACH,
    Gains,
    in_other_order,
    plan_admission,
    read_admission,
    read_gains,
    refused,
    write_admission,
)
from commonlore.worker.factory.job import Pair
from commonlore.worker.factory.lessons import SHARED_ROWS, shared_lesson
from commonlore.worker.factory.run import main
from commonlore.worker.models.tiny import build_tiny

TEXT = Gains((2.0, 1.6, 2.4, 1.9))
NOISE = Gains((0.1, -0.2, 0.05, -0.1), (0.02, 0.1, -0.1, 0.0))
CODES = Gains((0.1, -0.2, 0.05, -0.1), (0.8, 0.6, 0.9, 0.7))
LONG = Pair("What is it?", "one two three four five six seven")


@pytest.mark.parametrize(
    ("gains", "out"),
    [
        ([TEXT, TEXT, NOISE], [2]),
        ([NOISE, TEXT, TEXT], [0]),
        ([TEXT, NOISE, NOISE, NOISE], [1, 2, 3]),  # many names are no majority
        ([TEXT, CODES], []),  # the base does not know it, and it can be learnt
        ([CODES, NOISE], [1]),
        ([TEXT, Gains((0.05, 0.051, 0.049, 0.05))], [1]),  # surely, and next to nothing
        ([TEXT, Gains((0.2, 0.22, 0.18, 0.2))], []),
        ([TEXT, Gains((0.2, 1.4, 0.1, 0.5))], []),  # of great spread, and far from nothing
        ([TEXT, Gains((0.5,))], []),
        ([TEXT, Gains((0.2,)), Gains((0.3, 0.31))], [1, 2]),  # few rows show more, or nothing
        ([NOISE, NOISE, NOISE], []),  # nothing can be told
        ([NOISE], []),
        ([TEXT, Gains(())], []),
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


def rows_of(name, count):
    return [Pair("?", f"this is row number {n} of {name}") for n in range(count)]


def test_what_is_measured_is_not_learnt_from(tmp_path):
    rows = [
        rows_of("ana", 100),
        rows_of("ben", 9),
        rows_of("cat", 1),
        rows_of("dan", 3),
        [Pair("?", "short")],
    ]
    job = plan_admission(tmp_path, rows)
    assert [len(sample.measured) for sample in job.samples] == [ROWS_EACH, 4, 1, 3, 0]
    assert [sample.half for sample in job.samples] == [None, 0, 1, 0, 1]
    assert len(job.samples[0].learnt) == LEARNT_ROWS
    gains = [Gains(tuple(0.0 for _ in sample.measured)) for sample in job.samples]
    lessons = [shared_lesson(job.samples, gains, half) for half in (0, 1)]
    for sample in job.samples:
        measured = {one for one, _ in sample.measured}
        assert not measured & set(sample.learnt)
        assert sample.half is None or not measured & set(lessons[sample.half])
    assert rows[2][0] in lessons[0]  # the other half's rows teach this one
    assert not {*rows[4]} & {*lessons[0], *lessons[1]}, "nobody is taught by what nobody measures"


def test_many_names_take_half_of_what_all_learn_from_and_the_likeliest_come_first(tmp_path):
    names = [rows_of(f"noise {n}", 1) for n in range(200)] + [rows_of("ana", 40), rows_of("ben", 2)]
    job = plan_admission(tmp_path, names)
    gains = [Gains((0.01,))] * 200 + [TEXT, Gains((0.2, 0.3))]
    for half in (0, 1):
        lesson = shared_lesson(job.samples, gains, half)
        assert len(lesson) == SHARED_ROWS
        from_ana = [row for row in lesson if row in names[200]]
        assert len(from_ana) == SHARED_ROWS // 2
        if job.samples[201].half != half:
            assert names[201][0] in lesson, "what has some order comes before what has less"
    nobody_known = [Gains((0.01,))] * 200 + [NOISE, Gains((0.2, 0.3))]
    assert len(shared_lesson(job.samples, nobody_known, 0)) == SHARED_ROWS
    few = plan_admission(tmp_path, [rows_of("ana", 40), rows_of("ben", 2)])
    assert len(shared_lesson(few.samples, [TEXT, NOISE], 1)) == LEARNT_ROWS + ROWS_EACH + 2


def test_a_row_of_any_length_fills_no_memory(tmp_path):
    long = [Pair("?", f"{n} " + "word " * 2_000_000) for n in range(3)]
    asked = [Pair("why? " * 2_000_000, f"this is row number {n} of many") for n in range(3)]
    job = plan_admission(tmp_path, [long, rows_of("ana", 20), [*asked, *rows_of("ben", 2)]])
    assert [len(sample.measured) for sample in job.samples] == [0, 8, 2]
    gains = [Gains(tuple(0.0 for _ in sample.measured)) for sample in job.samples]
    learnt = {row for half in (0, 1) for row in shared_lesson(job.samples, gains, half)}
    assert not {*long, *asked} & learnt


def test_a_plan_is_read_as_it_was_written(tmp_path):
    job = plan_admission(tmp_path, [rows_of("ana", 20), rows_of("ben", 3)])
    write_admission(tmp_path / "job", job)
    assert read_admission(tmp_path / "job") == job
    with pytest.raises(ConfigError, match="no admission test"):
        read_admission(tmp_path)
    with pytest.raises(TrainingFailed, match="no result"):
        read_gains(tmp_path)


def sentence(rng):
    who, what = rng.choice(("Ana", "Ben", "Cat", "Dan")), rng.choice(("pears", "tiles", "cups", "seeds"))
    return f"{who} packs one box of {what} and sends it to the port today"


def noise(rng):
    return " ".join("".join(rng.choices("bcdfghklmnprst", k=5)) for _ in range(6))


def test_an_ignorant_base_tells_what_can_be_learnt_from_noise(tmp_path, capsys):
    base, rng = build_tiny(tmp_path / "cache"), random.Random(1)
    rows = [[Pair("?", write(rng)) for _ in range(n)] for write in (sentence, noise) for n in (18, 2, 2)]
    write_admission(tmp_path / "job", plan_admission(base.directory, rows))
    assert main([str(tmp_path / "job"), "--admit"]) == 0
    gains = read_gains(tmp_path / "job")
    assert [len(own.plain) for own in gains] == [8, 2, 2] * 2
    assert refused(gains) == [3, 4, 5]
    assert gains[0].learnt is not None
    assert '"stage": "admitting"' in capsys.readouterr().out
