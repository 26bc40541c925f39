"""Who runs next."""

from __future__ import annotations

import pytest

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.records import Sampling
from commonlore.worker.engine.batching.fairness import MAX_OVERTAKEN
from commonlore.worker.engine.batching.prompts import Answer, Prepared
from commonlore.worker.engine.batching.sequence import Sequence
from commonlore.worker.engine.batching.slots import SlotTable
from commonlore.worker.engine.batching.text import TextStream
from commonlore.worker.engine.exllamav2.admission import Admission, composition_of
from commonlore.worker.engine.types import GenerationRequest

CIDS = [cid_of(bytes([number])) for number in range(6)]


def request(number: int, *adapters: int) -> Sequence:
    weights = tuple(AdapterWeight(CIDS[one], PPM) for one in adapters)
    asked = GenerationRequest(bytes([number]), Sampling(1, 8), prompt_tokens=(1, 2, 3), adapters=weights)
    answer = Answer(asked, frozenset(), 8, TextStream(lambda _tokens: "", ()))
    return Sequence(Prepared(asked, (1, 2, 3), answer, None), b"", [1, 2, 3])


def admission_of(slots: int = 4, batch: int = 8, switched: bool = False) -> Admission:
    table = SlotTable(slots)
    for cid in CIDS:
        table.add(cid, 8)
    return Admission(table, batch, lambda running, one: not switched or all(r == one for r in running))


def admitted(admission: Admission) -> list[Sequence]:
    found = []
    while (one := admission.admit()) is not None:
        found.append(one)
    return found


def test_what_fits_runs_in_the_order_it_came() -> None:
    admission = admission_of(batch=2)
    requests = [request(1), request(2, 0), request(3, 1)]
    for one in requests:
        admission.add(one)
    assert admitted(admission) == requests[:2]
    admission.remove(requests[0])
    assert admitted(admission) == requests[2:]
    admission.table.check_integrity(one.adapters for one in admission.running)


def test_one_without_a_slot_is_passed_by_those_who_take_none() -> None:
    admission = admission_of(slots=1)
    first, lacking, another, same, base = (
        request(1, 0),
        request(2, 1),
        request(3, 2),
        request(4, 0),
        request(5),
    )
    for one in (first, lacking, another, same, base):
        admission.add(one)
    assert set(map(id, admitted(admission))) == {id(first), id(same), id(base)}
    admission.remove(first)
    admission.remove(same)
    assert admitted(admission) == [lacking]


def test_nobody_is_passed_for_ever() -> None:
    admission = admission_of(slots=1)
    admission.add(request(0, 0))
    (running,) = admitted(admission)
    lacking = request(1, 1)
    admission.add(lacking)
    passed = 0
    for number in range(2, 2 + 2 * MAX_OVERTAKEN):
        newcomer = request(number, 0)
        admission.add(newcomer)
        if newcomer not in admitted(admission):
            break
        passed += 1
        admission.remove(running)
        running = newcomer
    assert 0 < passed <= MAX_OVERTAKEN
    admission.remove(running)
    assert admission.admit() is lacking


def test_a_switched_batch_holds_one_composition() -> None:
    admission = admission_of(switched=True)
    first, other, same = request(1, 0), request(2, 1), request(3, 0)
    for one in (first, other, same):
        admission.add(one)
    assert admitted(admission) == [first, same]
    admission.remove(first)
    assert admitted(admission) == []
    admission.remove(same)
    assert admitted(admission) == [other]


@pytest.mark.parametrize("switched", [False, True])
def test_what_is_held_gives_way_and_comes_back_first(switched: bool) -> None:
    admission = admission_of(batch=1, switched=switched)
    held, other, later = request(1, 0), request(2, 1), request(3, 2)
    admission.add(held)
    assert admitted(admission) == [held]
    admission.hold(held, True)
    assert admission.give_way() == []  # nobody waits
    admission.add(other)
    assert admission.give_way() == [held]
    assert (admission.parked, admission.preemptions) == ([held], 1)
    assert admitted(admission) == [other]
    admission.add(later)
    admission.hold(held, False)
    admission.remove(other)
    assert admitted(admission) == [held]
    admission.remove(held)
    admission.remove(later)
    assert not admission.running
    assert not admission.parked
    assert not len(admission.waiting)


def test_one_that_is_parked_can_be_removed() -> None:
    admission = admission_of(batch=1)
    held, other = request(1, 0), request(2, 1)
    admission.add(held)
    admitted(admission)
    admission.hold(held, True)
    admission.add(other)
    admission.give_way()
    admission.remove(held)
    assert admission.parked == []
    admission.table.check_integrity([])


def test_a_composition_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    admission = admission_of(switched=True)
    both, turned = request(1, 0, 1), request(2, 1, 0)
    assert composition_of(both) == composition_of(turned)
    admission.add(both)
    admission.add(turned)
    assert admitted(admission) == [both, turned]
