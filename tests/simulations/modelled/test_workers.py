import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.simulations.modelled.kernel import Kernel
from commonlore.simulations.modelled.workers import Engine, EngineSpeed, Job

# a step takes 10 ms and 1 ms a sequence, a prompt token 1 ms, an adapter 5 ms from disk, 105 from afar
SPEED = EngineSpeed(
    max_batch=2,
    slots=2,
    disk=3,
    step_us=10_000,
    step_us_per_sequence=1_000,
    prefill_us_per_token=1_000,
    load_us=5_000,
    download_us=100_000,
)


class Bench:
    """An engine with a log of (what, job, milliseconds)."""

    def __init__(self, speed=SPEED):
        self.kernel = Kernel()
        self.engine = Engine(self.kernel, speed)
        self.log = []

    def job(self, number, adapter=-1, prompt=10, output=5):
        def note(what):
            return lambda job: self.log.append((what, job.number, self.kernel.now_us / 1000))

        return Job(number, adapter, prompt, output, note("first"), note("whole"))

    def add(self, time_ms, *arguments, **options):
        job = self.job(*arguments, **options)
        self.kernel.at(time_ms * 1000, self.engine.add, job)
        return job


@pytest.fixture
def bench():
    return Bench()


def test_one_answer_alone(bench):
    bench.add(0, 1)
    bench.kernel.run()
    assert bench.log == [("first", 1, 10), ("whole", 1, 10 + 4 * 11)]


def test_a_single_token_is_whole_with_its_first(bench):
    bench.add(0, 1, output=1)
    bench.kernel.run()
    assert bench.log == [("first", 1, 10), ("whole", 1, 10)]


def test_two_share_steps_and_a_prefill_holds_decoding_up(bench):
    bench.add(0, 1)
    bench.add(21, 2)
    bench.kernel.run()
    # 1 has its second token at 21; 2 is read until 31; then both take 12 ms a step: 1 needs three, 2 four,
    # its last one alone
    assert bench.log == [("first", 1, 10), ("first", 2, 31), ("whole", 1, 67), ("whole", 2, 78)]


def test_a_full_batch_queues(bench):
    for number in (1, 2, 3):
        bench.add(0, number)
    bench.kernel.run(until_us=25_000)
    assert (bench.engine.running, bench.engine.queued) == (2, 1)
    bench.kernel.run()
    whole = {number: at for what, number, at in bench.log if what == "whole"}
    first = {number: at for what, number, at in bench.log if what == "first"}
    assert first[3] == whole[1] + 10


def test_adapters_load_beside_running_work_and_from_disk_the_second_time(bench):
    missing = bench.add(0, 1, adapter=7)
    bench.add(0, 2)
    present = bench.add(400, 3, adapter=7)
    bench.kernel.run()
    assert bench.log[0] == ("first", 2, 10), "who waits for no adapter goes first"
    assert ("first", 1, 115) in bench.log
    assert (missing.hit, present.hit) == (False, True)
    for number, adapter in ((4, 8), (5, 9), (6, 7)):
        bench.add(1_000 * number, number, adapter=adapter)
    bench.kernel.run()
    assert ("first", 6, 6_015) in bench.log, "evicted from its slot, still on disk"
    assert bench.engine.fetched == 3
    assert bench.engine.resident() == [7, 9]


def test_downloads_share_one_line(bench):
    bench.add(0, 1, adapter=1)
    bench.add(0, 2, adapter=2)
    bench.kernel.run()
    assert [at for what, _, at in bench.log if what == "first"] == [115, 215]


def test_adapters_in_use_are_not_evicted(bench):
    for number in (1, 2, 3):
        bench.add(0, number, adapter=number, output=20)
    bench.kernel.run(until_us=300_000)
    assert sorted(bench.engine.resident()) == [1, 2]
    bench.kernel.run()
    assert ("whole", 3) in {(what, number) for what, number, _ in bench.log}


def test_prefetch_makes_a_hit(bench):
    bench.engine.prefetch(4)
    job = bench.add(200, 1, adapter=4)
    bench.kernel.run()
    assert job.hit


@pytest.mark.parametrize(("at_ms", "delivered"), [(5, 0), (15, 1), (40, 3), (200, 5)])
def test_abort_says_what_was_delivered(bench, at_ms, delivered):
    job = bench.add(0, 1)
    bench.kernel.at(at_ms * 1000, bench.engine.abort, job)
    bench.kernel.run(until_us=at_ms * 1000)
    assert bench.engine.delivered(job) == delivered
    bench.kernel.run()
    assert (("whole", 1, 54) in bench.log) is (at_ms > 54)
    assert (bench.engine.running, bench.engine.queued) == (0, 0)


def test_stop_returns_what_was_under_way_and_keeps_the_disk(bench):
    jobs = [bench.add(0, number, adapter=number % 2) for number in (1, 2, 3, 4)]
    bench.kernel.run(until_us=240_000)
    stopped = bench.engine.stop()
    ended = [number for what, number, _ in bench.log if what == "whole"]
    assert [job.number for job in stopped] == [job.number for job in jobs if job.number not in ended]
    bench.kernel.run()
    assert bench.engine.resident() == []
    again = bench.add(1_000, 9, adapter=1)
    bench.kernel.run()
    assert (again.hit, bench.engine.fetched) == (False, 2)
    assert bench.log[-1][:2] == ("whole", 9)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 200),  # ms until
        st.sampled_from(["add", "add", "add", "abort", "prefetch", "stop"]),
        st.integers(-1, 5),  # adapter
        st.integers(1, 30),  # tokens
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_every_job_ends_whole_or_stopped(steps):
    bench = Bench()
    engine, kernel = bench.engine, bench.kernel
    jobs, dropped, time_us = [], set(), 0
    for number, (pause_ms, what, adapter, tokens) in enumerate(steps):
        time_us += pause_ms * 1000
        kernel.run(until_us=time_us)
        if what == "add":
            jobs.append(bench.job(number, adapter, prompt=tokens, output=tokens))
            engine.add(jobs[-1])
        elif what == "prefetch" and adapter >= 0:
            engine.prefetch(adapter)
        elif what == "stop":
            dropped |= {job.number for job in engine.stop()}
        elif what == "abort" and jobs:
            dropped |= {jobs[tokens % len(jobs)].number} if not jobs[tokens % len(jobs)].ended else set()
            engine.abort(jobs[tokens % len(jobs)])
        assert engine.running <= SPEED.max_batch
        assert len(engine.resident()) <= SPEED.slots
    kernel.run()
    whole = [number for what, number, _ in bench.log if what == "whole"]
    assert sorted([*whole, *dropped]) == [job.number for job in jobs]
    assert (engine.running, engine.queued) == (0, 0)
    assert set(engine._slots.values()) <= {0}
    firsts = {number: at for what, number, at in bench.log if what == "first"}
    for what, number, at in bench.log:
        tokens = next(job.output_tokens for job in jobs if job.number == number)
        if what == "whole":
            assert at >= firsts[number] + (tokens - 1) * 11 - 0.01, "no faster than alone"
