"""How much is measured again of what a stranger announced."""

from __future__ import annotations

import pytest

from commonlore.peer.attribution.faithfulness_command import _require_modest
from commonlore.protocol.errors import ConfigError
from commonlore.worker.attribution.measurement import Effort


def test_as_much_as_train_measures_is_measured_unasked() -> None:
    _require_modest(Effort())
    _require_modest(Effort(subsets=40, rows=240, queries=36, steps=60, batch=8))


@pytest.mark.parametrize("effort", [Effort(65_535, steps=10_000), Effort(steps=10_000), Effort(rows=1 << 31)])
def test_what_would_take_days_is_said_and_not_begun(effort: Effort) -> None:
    with pytest.raises(ConfigError, match="--subsets"):
        _require_modest(effort)
