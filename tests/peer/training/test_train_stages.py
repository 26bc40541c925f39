"""Updates of a training order as stages that begin and end."""

from __future__ import annotations

from typing import Any

from commonlore.peer.training.train_stages import StageUpdate, TrainStages


def update(phase: str, step: int = 0, steps: int = 2, **more: Any) -> dict[str, Any]:
    return {"phase": phase, "step": step, "steps": steps, **more}


def test_every_stage_that_begins_ends() -> None:
    updates = [
        update("pulling", 2),
        update("loading", steps=1),
        update("measuring"),
        update("training", 1, loss=3.0),
        update("training", 2, loss=2.5),
        update("measuring", 1),
        update("done", 2),
        update("indexing", 2),
        {"alias": "me/x"},
    ]
    stages = TrainStages("me/x")
    told = [stage for each in updates for stage in stages.follow(each)]
    assert told == [
        StageUpdate("pulling the rows, every signature checked", 2, 2),
        StageUpdate("loading the base", 0, 1),
        StageUpdate("loading the base", 1, 1),
        StageUpdate("held-out loss without me/x", 0, 1),
        StageUpdate("held-out loss without me/x", 1, 1),
        StageUpdate("training me/x", 1, 2, "loss 3.00"),
        StageUpdate("training me/x", 2, 2, "loss 2.50"),
        StageUpdate("held-out loss with me/x", 0, 1),
        StageUpdate("held-out loss with me/x", 1, 1),
        StageUpdate("indexing me/x, a gradient a row", 2, 2),
    ]
