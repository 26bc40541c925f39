"""Real peers as a choice of a scenario: the same tables as the models give, and limits with their line."""

import os
from pathlib import Path

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.api import simulate
from commonlore.simulations.experiment.scenario import load_experiment, read_experiment
from commonlore.simulations.experiment.sources import code_digest
from commonlore.simulations.results.formats import to_bytes

GOLDEN = Path(__file__).with_name("golden_virtual.csv")
"""A small run of both drivers with seed 7, written anew with REGENERATE=1."""
SMALL = {
    "warmup_ms": 1_000,
    "duration_ms": 11_000,
    "workers.count": 4,
    "work.rate_per_s": 3.0,
    "adapters.count": 6,
    "money.epoch_ms": 4_000,
    "churn.mean_lifetime_ms": 12_000,
    "churn.mean_absence_ms": 3_000,
}


@pytest.fixture(scope="module")
def both():
    return simulate("drivers", seeds=(7,), **SMALL)


def test_golden_run(both):
    text = to_bytes(both.columns, "csv").decode()
    if os.environ.get("REGENERATE"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_both_fill_the_same_tables_and_lose_no_money(both):
    model, real = ({name: values[at] for name, values in both.columns.items()} for at in (0, 1))
    assert (model["driver"], real["driver"]) == ("kernel", "virtual")
    assert set(model) == set(real)
    assert model["asks"] == real["asks"] > 10
    assert model["conserved"] == real["conserved"] == 1
    assert real["epochs"] > 0
    assert {real[role] > 0 for role in ("platform", "worker", "author", "work_pool", "contributor")} == {True}
    asks = both.table("asks")
    came = {
        driver: [asks["arrived_us"][at] for at, arm in enumerate(asks["arm"]) if driver in arm]
        for driver in ("kernel", "virtual")
    }
    assert came["kernel"] == came["virtual"]


def test_the_code_of_real_peers_is_part_of_what_decides(both):
    assert code_digest(both.experiment) != code_digest(read_experiment({"name": "x", "about": ""}))


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ("[workers]\ncount = 2_000", 5, "2,001 peers; driver = .virtual. runs real ones"),
        ("[work]\nrate_per_s = 1e4", 5, "1,200,000 asks; driver = .virtual. takes 200,000"),
        ('[workers]\nmodel = "seats"', 5, "takes workers.model = .batching."),
        ("[workers]\nplacement_ms = 5", 5, "no real worker acts on advice; use driver = .kernel."),
        ("[adapters]\nranks = [[1, 8]]", 5, "has adapters of one rank"),
    ],
)
def test_what_real_peers_cannot_do_is_refused_with_its_line(tmp_path, lines, line, reason):
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "x"\nabout = ""\ndriver = "virtual"\n{lines}\n')
    with pytest.raises(ConfigError, match=rf"mine\.toml, line {line}: .*{reason}"):
        load_experiment(path)
    assert load_experiment(path, {"driver": ("kernel",)})


def test_other_kinds_have_no_driver():
    with pytest.raises(ConfigError, match="unknown key driver"):
        simulate("E5", driver="virtual")
