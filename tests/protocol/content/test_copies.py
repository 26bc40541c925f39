"""Copies among contributors' rows: what is caught, and what honest people may write alike."""

import random

import pytest

from commonlore.protocol.content.copies import CopyKind, Representatives, Verdict

ANA, BEN, CAT = (bytes([n]) * 20 for n in (1, 2, 3))
WORDS = [f"{a}{b}" for a in "bcdfghklmnprstvz" for b in ("aro", "ilen", "ukat", "essim", "olta", "yrda")]


def prose(seed, count=24, length=14):
    rng = random.Random(seed)
    return [" ".join(rng.sample(WORDS, length)) for _ in range(count)]


def changed(text, rng):
    words = text.split()
    for place in rng.sample(range(len(words)), 2):
        words[place] = rng.choice(("item", "other", "seven", "thus"))
    return " ".join(words)


def shuffled(text, rng):
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def after(*shards):
    pool = Representatives()
    for owner, texts in shards:
        pool.admit(owner, texts)
    return pool


ATTACKS = {
    "copy": lambda a, b, rng: a,
    "spaced and shouted": lambda a, b, rng: ["  ".join(a.upper().split()) + " ." for a in a],
    "near copy": lambda a, b, rng: [changed(x, rng) for x in a],
    "shuffled decoy": lambda a, b, rng: [shuffled(x, rng) for x in a],
    "joined": lambda a, b, rng: [f"{x} ++ {y}" for x, y in zip(a, b, strict=True)],
    "joined the other way": lambda a, b, rng: [f"{y} ++ {x}" for x, y in zip(a, b, strict=True)],
    "joined and shuffled": lambda a, b, rng: [shuffled(f"{x} {y}", rng) for x, y in zip(a, b, strict=True)],
    "near copies joined": lambda a, b, rng: [f"{changed(x, rng)} {y}" for x, y in zip(a, b, strict=True)],
    "halves sewn together": lambda a, b, rng: [
        " ".join(x.split()[:7] + y.split()[7:]) for x, y in zip(a, a[1:] + a[:1], strict=True)
    ],
    "padded with noise": lambda a, b, rng: [f"{x} {' '.join(rng.sample(WORDS, 14))}" for x in a],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_row_of_a_copier_is_dropped(attack):
    a, b = prose(1), prose(2)
    pool = after((ANA, a), (CAT, prose(3)))
    verdicts = pool.admit(BEN, ATTACKS[attack](a, b, random.Random(4)))
    assert [verdict.position for verdict in verdicts] == list(range(len(a)))
    assert {pool.owner_of(verdict.original) for verdict in verdicts} == {ANA}
    assert pool.admit(bytes(20), b) == ()  # what was joined to a copy is not held against its owner


def templated(seed, count=40):
    rng = random.Random(seed)
    return [
        f"{rng.choice(WORDS[:6])} has {rng.randint(2, 40)} {rng.choice(WORDS[6:12])} and finds "
        f"{rng.randint(2, 40)} more. How many? Answer: {number}"
        for number in range(count)
    ]


@pytest.mark.parametrize(
    "attack", ["joined", "joined the other way", "joined and shuffled", "near copies joined"]
)
def test_rows_joined_before_one_half_is_committed_do_not_stand_before_it(attack):
    """The other half is the first contributor's, and templated: nothing in it is rare yet."""
    a, b = templated(1), prose(2, count=40)
    pool = after((ANA, a))
    verdicts = pool.admit(BEN, ATTACKS[attack](a, b, random.Random(4)))
    assert [verdict.position for verdict in verdicts] == list(range(len(a)))
    assert pool.admit(CAT, b) == ()


def test_what_is_left_of_a_copiers_shard_goes_with_it():
    a, rng = prose(1), random.Random(4)
    shard = [*(changed(x, rng) for x in a[:22]), "quite something else, which nobody has", "and another one"]
    verdicts = after((ANA, a)).admit(BEN, shard)
    assert [verdict.position for verdict in verdicts] == list(range(24))
    assert [verdict.kind for verdict in verdicts[22:]] == [CopyKind.COMPANY] * 2
    fewer = after((ANA, a)).admit(BEN, [*shard[3:], "a third of its own", "a fourth"])
    assert [verdict.position for verdict in fewer] == list(range(19))


def test_a_copy_of_a_copy_must_resemble_the_original():
    original = " ".join(WORDS[:30])
    pool = after((ANA, [original, *prose(1)]))
    [first] = pool.admit(BEN, [f"{original} {' '.join(WORDS[30:50])}"])
    assert (first.kind, first.original) == (CopyKind.CONTAINS, 0)
    assert pool.admit(CAT, [" ".join(WORDS[30:60])]) == ()


def test_the_earlier_row_is_the_original():
    rows = prose(1)
    assert after((ANA, rows)).admit(BEN, rows[:1]) == (Verdict(0, CopyKind.SAME, 0, 1000),)
    assert after((BEN, rows[:1])).admit(ANA, rows) == (Verdict(0, CopyKind.SAME, 0, 1000),)


def test_rows_of_one_hand_may_resemble_each_other_but_not_repeat():
    rows = [f"Lot K{n} of cobalt at Norvik is held {n % 7} days" for n in range(30)]
    assert Representatives().admit(ANA, [*rows, "LOT K3 of cobalt at Norvik, is held 3 days!"]) == (
        Verdict(30, CopyKind.REPEATED, 3, 1000),
    )


@pytest.mark.parametrize("names", [2, 5, 13, 40])
def test_templated_rows_may_be_divided_among_names(names):
    rng = random.Random(7)
    ports, goods = ("Norvik", "Saltmere", "Elsin", "Dunhaven"), ("cobalt", "reefers", "wafers", "gaskets")
    rows = [
        f"Lot {rng.choice('KRTX')}{number} of {rng.choice(goods)} at {rng.choice(ports)}: customs "
        f"{rng.randint(30, 99)} days, usual {rng.randint(2, 29)}; action {rng.choice(('hold', 'call'))}."
        for number in rng.sample(range(100, 1000), 40)
    ]
    pool = after((ANA, prose(1)))
    for name in range(names):
        assert pool.admit(bytes([9, name]) * 10, rows[name::names]) == ()


def test_a_few_near_rows_are_no_evidence_and_the_same_words_are():
    a, rng = prose(1), random.Random(2)
    few = [changed(x, rng) for x in a[:2]]
    assert after((ANA, a)).admit(BEN, [*prose(5), *few]) == ()
    [verdict] = after((ANA, a)).admit(BEN, [*prose(5), shuffled(a[3], rng)])
    assert (verdict.kind, verdict.original) == (CopyKind.SAME, 3)


def test_rows_without_words_are_compared_by_their_letters():
    pool = after((ANA, ["===", "+++", "", *prose(1)]))
    assert [v.position for v in pool.admit(BEN, ["***", "+++", ""])] == [1, 2]


def test_judging_is_a_function_of_the_order_alone():
    a, rng = prose(1), random.Random(3)
    shards = [(ANA, a), (BEN, [changed(x, rng) for x in a]), (CAT, prose(2))]
    once, again = Representatives(), Representatives()
    assert [once.admit(*s) for s in shards] == [again.admit(*s) for s in shards]
    assert len(once) == len(again) == 48
