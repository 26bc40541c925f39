"""That the measurements run, and say what they promise; not what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FIGURES = {
    "ttft_added_ms_p50",
    "ttft_added_ms_p99",
    "throughput_ratio_1",
    "throughput_ratio_8",
    "requests_per_s_1token",
    "fetch_mb_s_1",
    "fetch_mb_s_3",
    "gossip_delivered",
    "gossip_ms_p50",
    "gossip_ms_p99",
}
ROOMS = {"client_node", "worker_node", "engine_process", "bare_engine"}


def test_a_quick_run_on_the_tiny_base_yields_everything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.path", "--quick", "--base", "tiny", "--json"],
        cwd=ROOT,
        env=os.environ | {"COMMONLORE_CACHE": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result["ranges"]) == FIGURES | {"cpu_ms_per_request"}
    assert set(result["cpu_ms_per_request"]) == ROOMS
    assert result["gossip_delivered"] == 1.0
    for name in FIGURES - {"ttft_added_ms_p50", "ttft_added_ms_p99"}:
        assert result[name] > 0, name
    assert result["detail"]["tokens_per_s_8_path"][0] > 0
    assert {"date", "machine", "versions", "plan"} <= set(result)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentiles_are_of_the_nearest_rank(percent: float, value: float, figures: object) -> None:
    assert figures.percentile(list(range(100, 0, -1)), percent) == value  # type: ignore[attr-defined]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> object:
    """The module; `benchmarks` is a folder of the repository, not of the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import figures

    return figures
