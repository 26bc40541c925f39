"""The kind `training`: one adapter trained by many peers that come and go. Modelled, all of it.

Peers compute gradients of samples at their own speeds until `batch` samples are there together; then all who
are present average them (a ring all-reduce of `adapter_kb` at the slowest upload, with `overhead_ms` for
finding each other), and the next batch begins. Who dies takes its samples of the batch along; who dies while
averaging fails the round, which the others begin anew. That is how hivemind trains (Ryabinin and Gusev 2020,
Diskin et al. 2021); hivemind itself does not run here, nor does this project train across peers yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Kind, Outcome, Scalar
from ..experiment.measures import ratio
from ..experiment.model_checks import check_lives
from ..experiment.models import ChurnModel
from ..experiment.tables import between
from ..modelled.kernel import Alarm, Kernel
from ..workload.arrivals import Stream, draw_lives, generator, spread

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Training:
    """Rates and uploads are medians, spread lognormally over peers."""

    peers: int = between(1, 10_000, 16)
    samples_per_s: float = between(0.001, 1_000_000, 4.0)
    speed_sigma: float = between(0, 5, 0.4)
    batch: int = between(1, 100_000_000, 512)
    adapter_kb: int = between(1, 1_000_000_000, 4_900)
    upload_kb_s: int = between(1, 1_000_000_000, 2_000)
    upload_sigma: float = between(0, 5, 0.5)
    overhead_ms: int = between(0, 3_600_000, 1_000)
    loss_detected_ms: int = between(0, 3_600_000, 5_000)


@dataclass(frozen=True, slots=True)
class TrainingScenario:
    """Everything a run follows from, but the seed."""

    name: str
    about: str
    duration_ms: int = between(1, 10_000_000_000, 3_600_000)
    training: Training = field(default_factory=Training)
    churn: ChurnModel = field(default_factory=ChurnModel)


def check_training(scenario: TrainingScenario) -> None:
    """Raises WrongKey."""
    check_lives(scenario.churn, scenario.duration_ms, scenario.training.peers)


class Run:
    """One training run. Samples are counted in millionths, so that shares of one are not lost."""

    def __init__(self, scenario: TrainingScenario, seed: int) -> None:
        model, draw = scenario.training, generator(seed, Stream.SPEEDS)
        self.kernel = Kernel()
        self.steps = self.rounds_failed = self.averaging_us = 0
        self.used = self.computed = 0
        self._model = model
        self.rates = spread(draw, model.samples_per_s, model.speed_sigma, model.peers, unit=PPM)
        self._uploads = spread(draw, model.upload_kb_s, model.upload_sigma, model.peers)
        self._done = [0] * model.peers
        self._present: set[int] = set()
        self._counted_us = 0
        self._averaging = False
        self._batch = Alarm(self.kernel, self._average)
        self._round = Alarm(self.kernel, self._averaged)
        for peer in range(model.peers):
            for born_us, died_us in draw_lives(scenario.churn, scenario.duration_ms, seed, peer):
                self.kernel.at(born_us, self._join, peer)
                self.kernel.at(died_us, self._leave, peer)
        self.kernel.run(scenario.duration_ms * 1000)
        self._count()

    def _join(self, peer: int) -> None:
        self._count()
        self._present.add(peer)
        self._plan()

    def _leave(self, peer: int) -> None:
        self._count()
        self._present.discard(peer)
        self._done[peer] = 0
        if self._averaging:
            self.rounds_failed += 1
            self._begin_round(self._model.loss_detected_ms * 1000)
        self._plan()

    def _count(self) -> None:
        """Add what was computed since it was counted last."""
        passed_us = self.kernel.now_us - self._counted_us
        if self._averaging:
            self.averaging_us += passed_us
        else:
            for peer in self._present:
                made = self.rates[peer] * passed_us // 1_000_000
                self._done[peer] += made
                self.computed += made
        self._counted_us = self.kernel.now_us

    def _plan(self) -> None:
        """Ring when the batch will be full."""
        rate = sum(self.rates[peer] for peer in self._present)
        if self._averaging or not rate:
            self._batch.clear()
            return
        missing = max(0, self._model.batch * PPM - sum(self._done))
        self._batch.set(self.kernel.now_us + -(-missing * 1_000_000 // rate) + 1)

    def _average(self) -> None:
        self._count()
        self._averaging = True
        self._begin_round(0)

    def _begin_round(self, delay_us: int) -> None:
        count = len(self._present)
        if not count:
            self._averaging = False
            self._round.clear()
            return
        slowest = min(self._uploads[peer] for peer in self._present)
        ring_us = 2 * (count - 1) * self._model.adapter_kb * 1_000_000 // (count * slowest)
        self._round.set(self.kernel.now_us + delay_us + self._model.overhead_ms * 1000 + ring_us)

    def _averaged(self) -> None:
        self._count()
        self._averaging = False
        self.steps += 1
        self.used += sum(self._done)
        self._done = [0] * self._model.peers
        self._plan()


def run_training(scenario: TrainingScenario, seed: int) -> Outcome:
    """One arm with one seed."""
    run = Run(scenario, seed)
    duration_us = scenario.duration_ms * 1000
    ideal = sum(run.rates) * duration_us // 1_000_000
    summary: dict[str, Scalar] = {
        "steps": run.steps,
        "steps_per_hour": round(run.steps * 3_600_000 / scenario.duration_ms, 3),
        "samples_per_s": round(run.used / PPM * 1e6 / duration_us, 6),
        "efficiency": ratio(run.used, ideal),
        "wasted": ratio(run.computed - run.used, run.computed),
        "averaging_share": ratio(run.averaging_us, duration_us),
        "rounds_failed": run.rounds_failed,
    }
    return Outcome(summary, {}, run.kernel.events)


KIND = Kind(
    name="training",
    config=TrainingScenario,
    run=run_training,
    check=check_training,
    columns=("steps", "samples_per_s", "efficiency", "wasted", "averaging_share", "rounds_failed"),
    figures=Figures(
        x="churn.mean_lifetime_ms",
        log_x=True,
        panels=(
            Panel("of what all could compute, used", ("efficiency",), "share"),
            Panel("time spent averaging", ("averaging_share",), "share"),
            Panel("computed in vain", ("wasted",), "share"),
            Panel("steps an hour", ("steps_per_hour",)),
        ),
    ),
)
