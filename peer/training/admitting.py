"""Refusing contributors whose rows read like noise, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from ...worker.factory.admission import plan_admission, read_gains, refused, write_admission
from ...worker.factory.job import Pair, TrainProgress
from ...worker.factory.process import admit
from ...worker.factory.selection import Selected


async def without_noise(
    base: Path, folder: Path, selected: Selected, tell: Callable[[TrainProgress], Awaitable[None]]
) -> Selected:
    """Measure some rows of each contributor in a process of its own; what is left. Raises as `admit`."""
    owners = selected.owners()
    if len(owners) < 2:
        return selected
    rows = [
        [Pair(o.row.question, o.row.answer) for o in selected.rows if o.payee == owner] for owner in owners
    ]
    await trio.to_thread.run_sync(write_admission, folder, plan_admission(base, rows))
    async with admit(folder) as updates:
        async for progress in updates:
            await tell(progress)
    return selected.refuse({owners[number] for number in refused(read_gains(folder))})
