"""Engines that share a machine slow each other while they work."""

import pytest

from commonlore.simulations.modelled.kernel import Kernel
from commonlore.simulations.modelled.machines import Machine
from commonlore.simulations.modelled.workers import Engine, EngineSpeed, Job

# a prompt token takes 1 ms, a step 10 ms
SPEED = EngineSpeed(4, 4, 4, 10_000, 0, 1_000, 0, 0)


def run(machine_of, second_at_us):
    """Two engines, a job each of 10 prompt tokens and 11 output tokens; when they began and were whole."""
    kernel, ends = Kernel(), {}

    def whole(job):
        ends[job.number] = (job.first_us, kernel.now_us)

    for number, at_us in enumerate((0, second_at_us)):
        engine = Engine(kernel, SPEED, machine_of(number))
        kernel.at(at_us, engine.add, Job(number, -1, 10, 11, lambda job: None, whole))
    kernel.run()
    return ends


def test_alone_and_one_after_the_other_they_take_their_own_time():
    shared = Machine(1_000_000)
    assert run(lambda number: Machine(1_000_000), 0) == {0: (10_000, 110_000), 1: (10_000, 110_000)}
    assert run(lambda number: shared, 200_000) == {0: (10_000, 110_000), 1: (210_000, 310_000)}


@pytest.mark.parametrize(("contention", "stretch"), [(1_000_000, 2), (500_000, 1.5), (0, 1)])
def test_together_both_take_longer(contention, stretch):
    shared = Machine(contention)
    both = run(lambda number: shared, 0)
    assert both[0] == both[1] == pytest.approx((10_000 * stretch, 110_000 * stretch), abs=50)


def test_only_what_overlaps_is_stretched():
    shared = Machine(1_000_000)
    ends = run(lambda number: shared, 60_000)
    # the first has 50 ms left when the second comes, which take 100; the second has then done 50 of its 110
    assert ends[0] == pytest.approx((10_000, 160_000), abs=50)
    assert ends[1] == pytest.approx((80_000, 220_000), abs=50)


def test_who_dies_slows_nobody():
    kernel, shared, ends = Kernel(), Machine(1_000_000), []
    engines = [Engine(kernel, SPEED, shared) for _ in range(2)]
    for number, engine in enumerate(engines):
        engine.add(Job(number, -1, 10, 11, lambda job: None, lambda job: ends.append(kernel.now_us)))
    kernel.at(20_000, lambda: engines[1].stop() and None)
    kernel.run()
    assert ends == [pytest.approx(120_000, abs=50)]
