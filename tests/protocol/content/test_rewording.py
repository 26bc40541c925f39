"""Rows made from another's by replacing many of their words, and honest rows that look like it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.copies import CopyKind, Representatives
from commonlore.protocol.content.rewording import FEWEST_PARTNERS, Trace, reworded_from, trace_of

ANA, BEN, CAT = (bytes([n]) * 20 for n in (1, 2, 3))
WORDS = [f"{a}{b}" for a in "bcdfghklmnprstvz" for b in ("aro", "ilen", "ukat", "essim", "olta", "yrda")]
FOREIGN = ("item", "other", "seven", "thus", "zeta")
PORTS, GOODS = (
    ("Norvik", "Saltmere", "Elsin", "Dunhaven", "Qarra"),
    ("cobalt", "reefers", "wafers", "gaskets"),
)


def prose(rng, count):
    return [" ".join(rng.sample(WORDS, 14)) for _ in range(count)]


def notes(rng, count):
    """Rows of one template."""
    return [
        f"Lot {rng.choice('KRTX')}{number} of {rng.choice(GOODS)} at {rng.choice(PORTS)}: customs hold "
        f"{rng.randint(30, 99)} days against {rng.randint(2, 29)} usual; score {rng.randint(1, 99)}; action "
        f"{rng.choice(('inspect', 'reroute', 'hold', 'call'))}."
        for number in rng.sample(range(100, 1000), count)
    ]


def reworded(text, percent, others, rng):
    words = text.split()
    for place in rng.sample(range(len(words)), round(percent * len(words) / 100)):
        words[place] = rng.choice(others)
    return " ".join(words)


@pytest.mark.parametrize("percent", [20, 30, 40, 50])
@pytest.mark.parametrize("others", [FOREIGN, WORDS], ids=["foreign", "corpus"])
@pytest.mark.parametrize("write", [prose, notes])
def test_every_row_of_a_shard_that_was_reworded_is_dropped(write, others, percent):
    rng = random.Random(5)
    rows, pool = write(rng, 40), Representatives()
    pool.admit(CAT, (notes if write is prose else prose)(rng, 40))
    assert pool.admit(ANA, rows) == ()
    verdicts = pool.admit(BEN, [reworded(row, percent, others, rng) for row in rows])
    assert len(verdicts) == 40
    assert sum(pool.owner_of(verdict.original) == ANA for verdict in verdicts) >= 30


def test_a_reworded_row_says_so():
    rng, pool = random.Random(5), Representatives()
    rows = notes(rng, 40)
    pool.admit(ANA, rows)
    verdicts = pool.admit(BEN, [reworded(row, 50, FOREIGN, rng) for row in rows])
    said = [verdict for verdict in verdicts if verdict.kind is CopyKind.REWORDED]
    assert said
    assert all(200 <= verdict.likeness <= 1000 for verdict in said)
    assert sum(verdict.original == verdict.position for verdict in said) >= len(said) * 2 // 3


def test_what_a_cheat_adds_of_his_own_hides_nothing():
    rng, pool = random.Random(5), Representatives()
    rows = notes(rng, 40)
    pool.admit(ANA, rows)
    own = [" ".join(rng.sample(FOREIGN, 3)) + f" own{number} word{number}" for number in range(40)]
    verdicts = pool.admit(BEN, [*(reworded(row, 40, WORDS, rng) for row in rows), *own])
    assert [verdict.position for verdict in verdicts] == list(range(40))


def test_a_few_reworded_rows_are_chance():
    rng, pool = random.Random(5), Representatives()
    rows = notes(rng, 40)
    pool.admit(ANA, rows)
    few = [reworded(row, 40, WORDS, rng) for row in rows[: FEWEST_PARTNERS - 1]]
    assert pool.admit(BEN, [*prose(rng, 40), *few]) == ()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from((2, 3)), st.sampled_from((prose, notes)))
def test_honest_rows_of_one_template_stay_however_they_are_divided(seed, names, write):
    rng = random.Random(seed)
    rows, pool = write(rng, 30 * names), Representatives()
    for name in range(names):
        verdicts = pool.admit(bytes([9, name]) * 10, rows[name::names])
        assert CopyKind.REWORDED not in {verdict.kind for verdict in verdicts}
        assert verdicts == ()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_large_part_of_a_family_after_a_small_one_is_not_reworded_from_it(seed):
    rng = random.Random(seed)
    rows, pool = notes(rng, 140), Representatives()
    pool.admit(ANA, rows[:20])
    verdicts = pool.admit(BEN, rows[20:])
    assert CopyKind.REWORDED not in {verdict.kind for verdict in verdicts}


def test_the_second_best_match_decides_how_a_row_stands_out():
    weight = {3: 500, 4: 400, 7: 100}.__getitem__
    assert trace_of([(7, 100), (3, 200), (4, 200)], weight) == Trace(3, 400, 0)
    assert trace_of([(7, 90), (4, 200)], weight) == Trace(4, 500, 275)
    assert trace_of([(7, 90)], weight) == Trace(7, 900, 900)


def partners(count, alike=0):
    return [Trace(n, 500, 100) for n in range(count)] + [Trace(0, 500, 0)] * alike


@pytest.mark.parametrize(
    ("traces", "size", "found"),
    [
        (partners(16), 40, True),
        (partners(15), 15, False),
        (partners(24, alike=16), 40, True),
        (partners(23, alike=17), 40, False),
        ([*partners(16), *[None] * 40], 26, True),
        ([*partners(16), *[None] * 40], 27, False),
        ([Trace(1, 500, 100)] * 40, 40, False),
        ([Trace(n, 299, 299) for n in range(40)], 40, False),
        ([Trace(n, 500, 79) for n in range(40)], 40, False),
        ([], 40, False),
    ],
)
def test_most_rows_must_have_a_partner_of_their_own(traces, size, found):
    assert reworded_from(traces, lambda _: ANA, {ANA: size}) == (frozenset({ANA}) if found else frozenset())
