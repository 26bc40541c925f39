"""A training order's updates, as stages with a beginning and an end: what a progress bar needs.

Some phases only say that they began (loading the base, measuring); they end when the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class TrainUpdate:
    """How far a stage is: pulling, loading, measuring, training, curvature, indexing, measuring faithfulness.

    `eta_s` is of this stage.
    """

    phase: str
    step: int
    steps: int
    loss: float | None = None
    eta_s: float | None = None


class StageUpdate(NamedTuple):
    """How far a stage is; `done` equal to `total` ends it. `detail` is the newest figure."""

    label: str
    done: int
    total: int
    detail: str = ""


class TrainStages:
    """The stages of one order. `name` is the adapter's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: str | None = None
        self._trained = False

    def follow(self, update: Mapping[str, Any]) -> Iterator[StageUpdate]:
        """What an update of the control API means for the bars."""
        phase, step, steps = update.get("phase"), update.get("step", 0), update.get("steps", 0)
        label = self._label(str(phase))
        if self._open is not None and label != self._open:
            yield StageUpdate(self._open, 1, 1)
            self._open = None
        if label is None:
            return
        if phase in ("loading", "measuring"):
            self._open = label
            yield StageUpdate(label, 0, 1)
        elif steps:
            loss = update.get("loss")
            yield StageUpdate(label, step, steps, f"loss {loss:.2f}" if loss is not None else "")

    def _label(self, phase: str) -> str | None:
        self._trained |= phase == "training"
        return {
            "pulling": "pulling the rows, every signature checked",
            "loading": "loading the base",
            "measuring": f"held-out loss {'with' if self._trained else 'without'} {self._name}",
            "admitting": "telling language from noise",
            "training": f"training {self._name}",
            "curvature": f"curvature of {self._name}'s loss",
            "indexing": f"indexing {self._name}, a gradient a row",
            "measuring faithfulness": f"how well {self._name}'s scores predict training again",
        }.get(phase)
