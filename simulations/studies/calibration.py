"""The kind `calibration`: a worker's cost model, fitted to a real request log, and what it then predicts.

The model is that of `workers`: a fixed time and one a prompt token before the first token, a time a step and
one a sequence beside, a time for an adapter that was not held, and, where the workers shared a machine, how
much longer everything takes for each other one that works. It is run over the logs' own arrivals, and its
parameters are moved (Nelder and Mead 1965) until it errs least: the mean of |ln predicted / real| over the
answers' times to first token (TTFT) and times per output token (TPOT). What remains is taken as noise that
the next run has too: a prediction is the model's time, spread by the fitting run's residuals.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..experiment.figures import Figures, Panel
from ..experiment.kinds import Kind, Outcome, Scalar
from ..experiment.measures import Floats, percentile
from ..experiment.tables import WrongKey, between
from ..modelled.machines import PPM
from ..modelled.workers import EngineSpeed
from .replay import Served, read_log, replay

FIRST_CONTENTION = 0.5
FIRST_STEP = 1.0
"""How far the first guesses are moved, in logarithms."""
PERCENTS = (5, 10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Logs:
    """The files of one run, one a worker, that the model is fitted to, and those of another that it predicts.

    `max_batch` and `slots` are the workers' settings; `one_machine` says that all of a run's workers shared
    one, so that they slowed each other.
    """

    fit: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    max_batch: int = between(1, 65_536, 8)
    slots: int = between(1, 1_000_000, 16)
    one_machine: bool = False
    evaluations: int = between(1, 1_000_000, 600)


@dataclass(frozen=True, slots=True)
class CalibrationScenario:
    """Everything a calibration follows from."""

    name: str
    about: str
    calibration: Logs = field(default_factory=Logs)


@dataclass(frozen=True, slots=True)
class Costs:
    """What is fitted: an engine's costs, and by how many millionths another that works stretches them."""

    speed: EngineSpeed
    contention_ppm: int = 0


@dataclass(frozen=True, slots=True)
class Times:
    """Real and modelled times of the answers that can be compared, in milliseconds."""

    real: Floats
    modelled: Floats

    @property
    def residuals(self) -> Floats:
        """ln real / modelled."""
        ratios: Floats = np.log(np.maximum(self.real, 1e-3) / np.maximum(self.modelled, 1e-3))
        return ratios


def check_logs(scenario: CalibrationScenario) -> None:
    """Raises WrongKey."""
    for key, files in (("fit", scenario.calibration.fit), ("held_out", scenario.calibration.held_out)):
        if not files or not all(isinstance(each, str) for each in files):
            raise WrongKey(f"calibration.{key}", f"calibration.{key} must list files, one a worker")


def locate_logs(scenario: CalibrationScenario, folder: Path) -> CalibrationScenario:
    """The same with absolute paths, every file read once. Raises WrongKey."""
    logs = scenario.calibration
    fit, held_out = (_located(files, folder) for files in (logs.fit, logs.held_out))
    for key, files in (("fit", fit), ("held_out", held_out)):
        for file in files:
            read_log(Path(file), f"calibration.{key}")
    return replace(scenario, calibration=replace(logs, fit=fit, held_out=held_out))


def _located(files: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    return tuple(
        str((folder / each if (folder / each).exists() else Path(each)).absolute()) for each in files
    )


def run_calibration(scenario: CalibrationScenario, _seed: int) -> Outcome:
    """Fit and predict; the seed changes nothing."""
    logs = scenario.calibration
    fitting = [read_log(Path(each), "calibration.fit") for each in logs.fit]
    held_out = [read_log(Path(each), "calibration.held_out") for each in logs.held_out]
    fit = fit_costs(fitting, logs)
    seen, unseen = times_of(fitting, fit), times_of(held_out, fit)
    speed = fit.speed
    summary: dict[str, Scalar] = {
        "step_us": speed.step_us,
        "step_us_per_sequence": speed.step_us_per_sequence,
        "prefill_us_per_token": speed.prefill_us_per_token,
        "overhead_us": speed.overhead_us,
        "load_us": speed.load_us,
        "contention_ppm": fit.contention_ppm,
        "fitted": len(seen["ttft"].real),
        "held_out": len(unseen["ttft"].real),
    }
    table: dict[str, list[object]] = {
        "measure": [],
        "percent": [],
        "real_ms": [],
        "predicted_ms": [],
        "error": [],
    }
    for name in ("ttft", "tpot"):
        summary |= _errors(name, seen[name], unseen[name])
        _add_quantiles(table, name, seen[name], unseen[name])
    return Outcome(summary, {"quantiles": table}, logs.evaluations)


def times_of(logs: list[list[Served]], costs: Costs) -> dict[str, Times]:
    """Real and modelled times of all workers' answers, to the first token and an output token."""
    told = replay(logs, costs.speed, costs.contention_ppm)
    pairs = [
        (ask, predicted)
        for log, answers in zip(logs, told, strict=True)
        for ask, predicted in zip(log, answers, strict=True)
        if ask.is_measured
    ]
    return {
        "ttft": Times(*np.array([(ask.first_ms, said.first_ms) for ask, said in pairs]).T),
        "tpot": Times(*np.array([(ask.token_ms, said.token_ms) for ask, said in pairs]).T),
    }


def predict(seen: Times, unseen: Times) -> Floats:
    """The times that the model predicts, each with every residual of the fitting run."""
    spread: Floats = (unseen.modelled[:, None] * np.exp(seen.residuals)[None, :]).ravel()
    return spread


def _errors(name: str, seen: Times, unseen: Times) -> dict[str, Scalar]:
    """Relative errors of the held-out run's median and 95th percentile, and over its single answers."""
    predicted = predict(seen, unseen)
    errors: dict[str, Scalar] = {}
    for percent in (50, 95):
        real = percentile(unseen.real, percent)
        errors[f"{name}_p{percent}_ms"] = round(real, 3)
        errors[f"{name}_p{percent}_predicted_ms"] = round(percentile(predicted, percent), 3)
        errors[f"{name}_p{percent}_err"] = round(abs(percentile(predicted, percent) / real - 1), 6)
    spread = np.median(np.abs(unseen.residuals - np.median(seen.residuals)))
    errors[f"{name}_answer_err"] = round(float(np.expm1(spread)), 6)
    errors[f"{name}_ks"] = round(_distance(unseen.real, predicted), 6)
    return errors


def _distance(real: Floats, predicted: Floats) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the two distributions."""
    places = np.concatenate([real, predicted])
    shares = [np.searchsorted(np.sort(each), places, side="right") / len(each) for each in (real, predicted)]
    return float(np.abs(shares[0] - shares[1]).max())


def _add_quantiles(table: dict[str, list[object]], name: str, seen: Times, unseen: Times) -> None:
    predicted = predict(seen, unseen)
    for percent in PERCENTS:
        real, said = percentile(unseen.real, percent), percentile(predicted, percent)
        row = (name, percent, round(real, 3), round(said, 3), round(said / real - 1, 6))
        for column, value in zip(table.values(), row, strict=True):
            column.append(value)


# ---- fitting


def fit_costs(logs: list[list[Served]], settings: Logs) -> Costs:
    """The parameters with which the model errs least on these logs."""
    from scipy.optimize import minimize

    start = _first_guess(logs)
    if settings.one_machine:
        start = np.append(start, FIRST_CONTENTION)

    def error(logarithms: Floats) -> float:
        times = times_of(logs, _costs(np.exp(logarithms), settings))
        return float(sum(np.abs(each.residuals).mean() for each in times.values()))

    corners = np.log(start) + FIRST_STEP * np.eye(len(start) + 1, len(start), -1)
    limits = {"maxfev": settings.evaluations, "xatol": 1e-3, "fatol": 1e-4}
    best = minimize(error, corners[0], method="Nelder-Mead", options={**limits, "initial_simplex": corners})
    return _costs(np.exp(best.x), settings)


def _first_guess(logs: list[list[Served]]) -> Floats:
    """Microseconds: a step, beside it a sequence, a prompt token, an answer, a missing adapter."""
    asks = [ask for log in logs for ask in log if ask.is_measured]
    step = 1000 * float(np.median([ask.token_ms for ask in asks]))
    prompts = np.median([ask.prompt_tokens for ask in asks])
    held = [ask.first_ms for ask in asks if ask.held] or [ask.first_ms for ask in asks]
    missed = [ask.first_ms for ask in asks if not ask.held] or held
    first = 1000 * float(np.median(held))
    load = max(1_000.0, 1000 * float(np.median(missed)) - first)
    guess: Floats = np.maximum(
        1.0, np.array([0.8 * step, 0.2 * step, 0.5 * first / prompts, 0.5 * first, load])
    )
    return guess


def _costs(parameters: Floats, settings: Logs) -> Costs:
    """From microseconds and, where workers share a machine, a share of time."""
    step, sequence, token, answer, load = (min(1 << 40, round(float(each))) for each in parameters[:5])
    speed = EngineSpeed(
        max_batch=settings.max_batch,
        slots=settings.slots,
        disk=1 << 20,
        step_us=max(1, step),
        step_us_per_sequence=sequence,
        prefill_us_per_token=token,
        load_us=load,
        download_us=0,
        overhead_us=answer,
    )
    return Costs(speed, min(1 << 30, round(float(parameters[5]) * PPM)) if settings.one_machine else 0)


_BOTH = ("real", "predicted")

KIND = Kind(
    name="calibration",
    config=CalibrationScenario,
    run=run_calibration,
    packages=("scipy",),
    check=check_logs,
    locate=locate_logs,
    inputs=lambda scenario: (*scenario.calibration.fit, *scenario.calibration.held_out),
    columns=("fitted", "held_out", "ttft_p50_err", "ttft_p95_err", "tpot_p50_err", "tpot_p95_err"),
    figures=Figures(
        rows=True,
        panels=(
            Panel("TTFT, median", ("ttft_p50_ms", "ttft_p50_predicted_ms"), "ms", names=_BOTH),
            Panel("TTFT, p95", ("ttft_p95_ms", "ttft_p95_predicted_ms"), "ms", names=_BOTH),
            Panel("TPOT, median", ("tpot_p50_ms", "tpot_p50_predicted_ms"), "ms", names=_BOTH),
            Panel("TPOT, p95", ("tpot_p95_ms", "tpot_p95_predicted_ms"), "ms", names=_BOTH),
        ),
    ),
)
