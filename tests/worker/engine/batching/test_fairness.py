"""Whose turn it is: by what each adapter was served, not by who asks most."""

from __future__ import annotations

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.batching.fairness import MAX_COUNTERS, MAX_OVERTAKEN, OUTPUT_WEIGHT, WaitingLine
from commonlore.worker.engine.batching.prompts import Answer, Prepared
from commonlore.worker.engine.batching.sequence import Sequence
from commonlore.worker.engine.batching.text import TextStream
from commonlore.worker.engine.types import GenerationRequest


def sequence(*names: str, prompt: int = 10) -> Sequence:
    adapters = tuple(AdapterWeight(cid_of(name.encode()), PPM // len(names)) for name in names)
    request = GenerationRequest(b"x", Sampling(0, 100), adapters=adapters)
    answer = Answer(request, frozenset(), 1000, TextStream(str, ()))
    return Sequence(Prepared(request, (), answer, None), b"root", list(range(prompt)))


def line_of(*sequences: Sequence) -> WaitingLine:
    line = WaitingLine()
    for one in sequences:
        line.add(one)
    return line


def admit_next(line: WaitingLine) -> Sequence:
    one = line.candidates()[0]
    line.admit(one)
    return one


def run_to_end(line: WaitingLine, one: Sequence, output: int = 0) -> None:
    line.counters.charge(one, OUTPUT_WEIGHT * output)
    line.counters.leave(one)


def test_a_hot_adapter_takes_turns_with_a_cold_one() -> None:
    hot = [sequence("hot") for _ in range(6)]
    cold = [sequence("cold") for _ in range(2)]
    line = line_of(*hot, *cold)
    assert [admit_next(line) for _ in range(8)] == [hot[0], cold[0], hot[1], cold[1], *hot[2:]]


def test_the_plain_base_is_one_more_adapter() -> None:
    base = [sequence() for _ in range(3)]
    other = sequence("a")
    line = line_of(*base, other)
    assert [admit_next(line) for _ in range(4)] == [base[0], other, *base[1:]]


def test_within_an_adapter_it_is_first_come_first_served() -> None:
    first, second = sequence("a", prompt=100), sequence("a", prompt=1)
    line = line_of(first, second)
    assert line.candidates() == [first]
    assert [admit_next(line), admit_next(line)] == [first, second]


def test_long_prompts_and_long_answers_cost_their_adapter_more() -> None:
    line = line_of(sequence("long", prompt=100), sequence("short", prompt=10))
    long, short = admit_next(line), admit_next(line)
    line.add(sequence("long"))
    line.add(sequence("short"))
    assert line.candidates()[0].adapters == short.adapters
    line.counters.charge(short, OUTPUT_WEIGHT * 60)
    assert line.candidates()[0].adapters == long.adapters


def test_idle_time_saves_up_no_credit() -> None:
    line = line_of(*(sequence("busy", prompt=100) for _ in range(9)))
    for _ in range(3):
        admit_next(line)
    late = [sequence("late", prompt=100) for _ in range(3)]
    for one in late:
        line.add(one)
    turns = [admit_next(line) for _ in range(6)]
    assert [one in late for one in turns] == [False, True] * 3  # not three of the late one first


def test_a_composition_is_charged_to_each_of_its_adapters() -> None:
    line = line_of(sequence("a", "b", prompt=50), sequence("c", prompt=20))
    for _ in range(2):
        admit_next(line)
    for name in ("a", "b", "c"):
        line.add(sequence(name))
    assert line.candidates()[0].adapters == {cid_of(b"c")}


def test_a_preempted_one_goes_first_and_is_not_charged_again() -> None:
    ran, other = sequence("a"), sequence("b")
    line = line_of(ran, other)
    admit_next(line)
    before = line.counters.served(ran)
    line.add_preempted(ran)
    assert admit_next(line) is ran
    assert line.counters.served(ran) == before


def test_newcomers_without_end_overtake_only_so_often() -> None:
    busy = sequence("busy")
    line = line_of(sequence("busy", prompt=500), sequence("low", prompt=1), busy)
    for _ in range(2):
        admit_next(line)
    turns: list[Sequence] = []
    while busy not in turns:
        line.add(sequence(f"new {len(turns)}"))
        turns.append(admit_next(line))
        if turns[-1] is not busy:
            run_to_end(line, turns[-1])
        assert len(turns) <= MAX_OVERTAKEN + 1
    assert len(turns) == MAX_OVERTAKEN + 1


def test_a_flood_that_was_overtaken_does_not_come_as_a_block() -> None:
    """Only the first of an adapter's line becomes overdue; the rest begin again."""
    flood = [sequence("hot") for _ in range(40)]
    line = line_of(sequence("hot", prompt=10_000), *flood)
    admit_next(line)
    admitted = 0
    for number in range(3 * (MAX_OVERTAKEN + 1)):
        line.add(sequence(f"new {number}"))
        one = admit_next(line)
        admitted += one in flood
        run_to_end(line, one)
    assert admitted == 3


def test_when_nothing_is_active_all_is_forgiven_and_nothing_is_kept() -> None:
    line = line_of(*(sequence(f"{number}") for number in range(50)))
    while line.candidates():
        run_to_end(line, admit_next(line), output=9)
    fresh = sequence("0")
    line.add(fresh)
    assert line.counters.served(fresh) == 0


def test_counters_of_a_long_busy_period_are_bounded() -> None:
    stays = sequence("stays")
    line = line_of(stays)
    for number in range(2 * MAX_COUNTERS):
        one = sequence(f"{number}")
        line.add(one)
        line.remove(one)
        line.counters.charge(one, 1)
        line.counters.leave(one)
    assert len(line.counters._served) <= MAX_COUNTERS + 1
    assert line.candidates() == [stays]
