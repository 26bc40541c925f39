import json

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.api import simulate
from commonlore.simulations.sweep import run as runner
from commonlore.simulations.sweep.pool import Pool

SMALL = {
    "duration_ms": 14_000,
    "warmup_ms": 4_000,
    "work.rate_per_s": 3.0,
    "workers.count": 3,
    "network.gateways": 1,
    "adapters.zipf": [0.6, 1.4],
    "scheduler.policy": "random",
    "churn.mean_lifetime_ms": 0,
}


@pytest.fixture(scope="module")
def results():
    return simulate("E1", seeds=(1, 2), **SMALL)


def test_results_are_columns(results):
    assert results.columns["arm"] == ["zipf=0.6", "zipf=1.4"] * 2
    assert results.columns["seed"] == [1, 1, 2, 2]
    assert results.columns["adapters.zipf"] == [0.6, 1.4] * 2
    asks = results.table("asks")
    assert set(asks["seed"]) == {1, 2}
    assert len(asks["arm"]) == len(asks["ttft_us"])


def test_a_notebook_shows_them(results):
    page = results._repr_html_()
    assert page.startswith('<img style="max-width:100%" src="data:image/png;base64,')
    assert "<td>zipf=1.4</td>" in page


def test_they_can_be_saved_as_parquet(results, tmp_path):
    import pyarrow.parquet as pq

    files = [results.save(tmp_path / name, "parquet") for name in ("a", "b")]
    names = {path.name for path in (tmp_path / "a").iterdir()}
    tables = {"summary.csv", "summary.parquet", "asks-1.parquet", "asks-2.parquet", "manifest.json"}
    assert names == tables | {"plot.png", "report.html"}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (
        pq.read_table(tmp_path / "a" / "summary.parquet")["goodput"].to_pylist() == results.columns["goodput"]
    )
    assert json.loads(files[0].manifest.read_text())["swept"] == ["adapters.zipf"]


def test_runs_are_kept_in_a_folder_and_failures_told(tmp_path, monkeypatch):
    small = {"audit.cheat": "int8", "audit.receipts": [1, 2], "audit.verdicts": 200}
    act = runner.run_arm
    monkeypatch.setattr(runner, "run_arm", lambda arm, seed: act(arm, seed if "=1" in arm.label else "x"))
    with pytest.warns(RuntimeWarning, match="1 runs failed, the first: receipts=2, seed 3: TypeError"):
        results = simulate("E5", seeds=(3,), out=tmp_path, **small)
    assert repr(results) == "<Results of e5_audit: 2 arms, 1 seeds, 1 runs failed>"
    assert (results.columns["arm"], results.failed[0].arm) == (["receipts=1"], "receipts=2")
    assert "1 run has no result" in (tmp_path / "report.html").read_text()
    monkeypatch.undo()
    again = simulate("E5", seeds=(3,), out=tmp_path, **small)
    assert again.columns["arm"] == ["receipts=1", "receipts=2"]
    assert len(again.table("roc")["arm"]) > len(results.table("roc")["arm"]) > 0
    with pytest.raises(ConfigError, match="no table 'asks'; e5_audit has: roc"):
        again.table("asks")


def test_numbers_may_be_numpys():
    import numpy as np

    small = {"audit.cheat": "int8", "audit.verdicts": np.int64(200), "audit.receipts": np.array([1, 2])}
    assert simulate("E5", **small).columns["audit.receipts"] == [1, 2]
    assert simulate("E5", **small | {"audit.receipts": range(1, 3)}).columns["audit.receipts"] == [1, 2]


def test_a_list_of_lists_is_one_value_of_a_sweep():
    mixes = [[[0.8, 1.0], [0.2, 0.1]], [[1, 1]]]
    quick = {"duration_ms": 1_500, "warmup_ms": 0, "scheduler.policy": "random", "adapters.zipf": 1.0}
    results = simulate("E1", **quick, **{"workers.mix": mixes, "churn.mean_lifetime_ms": 0})
    assert results.columns["workers.mix"] == mixes


def test_wrong_parameters_are_named():
    with pytest.raises(ConfigError, match=r"write seeds=\[3\] or seeds=range\(3\)"):
        simulate("E5", seeds=3)
    with pytest.raises(ConfigError, match=r"unknown key adapters\.zopf"):
        simulate("E1", **{"adapters.zopf": 1.0})


@pytest.mark.filterwarnings("ignore")
def test_a_local_ray_cluster_gives_the_same(results, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or it writes a token into the home
    again = simulate("E1", seeds=(1,), pool=Pool(2, "ray"), **SMALL)
    assert again.failed == ()
    assert again.columns["ttft_p50_ms"] == results.columns["ttft_p50_ms"][:2]


def test_a_local_dask_cluster_gives_the_same(results):
    distributed = pytest.importorskip("dask.distributed")
    local = {"n_workers": 1, "processes": False, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**local) as cluster:
        again = simulate("E1", seeds=(1,), pool=Pool(1, "dask", cluster.scheduler_address), **SMALL)
    assert again.columns["ttft_p50_ms"] == results.columns["ttft_p50_ms"][:2]
