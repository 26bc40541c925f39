"""Every kind: what it says agrees with what can be computed, and stays what it was."""

import os
from pathlib import Path

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.api import simulate
from commonlore.simulations.results.formats import to_bytes

GOLDEN = Path(__file__).with_name("golden_kinds.csv")
"""Small runs of each kind with seed 7, written anew with REGENERATE=1."""
SMALL = {
    "E2": {"overlay.peers": 3_000, "adversary.sybil_share": [0.0, 0.7], "gossip.messages": 2},
    "E3": {"attack.bond": [20, 80], "attack.audit_probability": 0.02, "attack.receipts_needed": 1},
    "E4": {
        "attribution.trick": ["none", "sort", "wash"],
        "attribution.row_mean": 0.2,
        "attribution.receipts": 60,
    },
    "E5": {"audit.cheat": "int8", "audit.receipts": [1, 25], "audit.verdicts": 20_000},
    "E7": {"training.peers": 8, "churn.mean_lifetime_ms": [300_000, 0], "duration_ms": 900_000},
}


@pytest.fixture(scope="module")
def small():
    return {name: simulate(name, seeds=(7,), **parameters) for name, parameters in SMALL.items()}


def figures(results, name):
    return results.columns[name]


def test_golden_runs(small):
    text = "\n".join(f"{name}\n{to_bytes(each.columns, 'csv').decode()}" for name, each in small.items())
    if os.environ.get("REGENERATE"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_gossip_reaches_all_and_eclipses_as_computed(small):
    honest, attacked = zip(*(figures(small["E2"], name) for name in ("coverage", "eclipsed")), strict=True)
    assert honest == (1.0, 0.0)
    expected = figures(small["E2"], "eclipse_expected")[1]
    assert attacked[1] == pytest.approx(expected, rel=0.3)
    assert figures(small["E2"], "delay_p50_ms")[0] < figures(small["E2"], "delay_p50_ms")[1]


@pytest.mark.parametrize("receipts_needed", [1, 25])
@pytest.mark.parametrize("campaign", [0, 200])
def test_cheating_pays_exactly_below_the_bond_of_the_closed_form(receipts_needed, campaign):
    needed = 0.6 * receipts_needed / (0.05 * 0.9 * 0.95)
    fixed = {"attack.audit_probability": 0.05, "attack.campaign": campaign}
    swept = {"attack.receipts_needed": receipts_needed, "attack.bond": [needed * 0.97, needed * 1.03]}
    results = simulate("E3", **fixed, **swept)
    assert results.columns["bond_needed"] == pytest.approx([needed] * 2)
    if not campaign:
        assert results.columns["pays"] == [1, 0]
        assert results.columns["profit"] == pytest.approx(
            results.columns["profit_expected"], abs=needed * 0.02
        )
    else:
        assert results.columns["receipts_until_caught"][0] <= campaign


def test_spreading_rows_by_worth_pays_and_washing_does_not(small):
    none, sort, _ = figures(small["E4"], "trick_gain")
    assert none == 0
    assert sort > 0.05
    roi = figures(small["E4"], "roi")[2]
    share = figures(small["E4"], "share_honest")[2]
    assert roi == pytest.approx(0.3 + 0.15 + 0.4 * share - 1, abs=0.01), "others take the rest"
    assert set(figures(small["E4"], "conserved")) == {1}


def test_a_subsidy_above_the_loss_makes_washing_pay():
    parameters = SMALL["E4"] | {"attribution.trick": "wash", "attribution.subsidy": [0.5, 0.6]}
    assert [roi > 0 for roi in simulate("E4", **parameters).columns["roi"]] == [False, True]


def test_an_int8_base_needs_many_receipts(small):
    one, many = figures(small["E5"], "power")
    assert one < 0.1
    assert many > 0.95


def test_churn_costs_steps_and_peers_that_stay_waste_nothing(small):
    assert figures(small["E7"], "rounds_failed")[1] == 0
    assert figures(small["E7"], "steps")[0] < figures(small["E7"], "steps")[1]
    alone = simulate("E7", **{"training.peers": 1, "churn.mean_lifetime_ms": 0, "training.speed_sigma": 0.0})
    step_s = 512 / 4 + 1
    assert alone.columns["steps"] == [int(3_600 / step_s)]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("E2", {"overlay.outbound": 20}, "must not exceed overlay.most"),
        ("E3", {"attack.audit_probability": 0.0}, "attack.audit_probability is 0; it must be at least"),
        ("E4", {"attribution.trick": "steal"}, "choose one of: none, split, sort"),
        ("E5", {"audit.receipts": 2.5}, "must be a value of type int"),
        ("E7", {"churn.mean_absence_ms": 0}, "churn.mean_absence_ms must be above 0"),
    ],
)
def test_mistakes_are_named(name, parameters, message):
    with pytest.raises(ConfigError, match=message):
        simulate(name, **parameters)
