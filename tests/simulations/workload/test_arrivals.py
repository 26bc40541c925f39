from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.experiment.models import AdapterModel, ChurnModel, Scenario, WorkModel
from commonlore.simulations.workload.arrivals import (
    NO_ADAPTER,
    Stream,
    check_lengths,
    draw_adapters,
    draw_arrivals,
    draw_lives,
    draw_workload,
    generator,
)


def scenario(duration_ms=100_000, adapters=None, **work):
    known = AdapterModel(**(adapters or {}))
    return Scenario("test", "", duration_ms=duration_ms, work=WorkModel(**work), adapters=known)


@pytest.mark.parametrize("burstiness", [1.0, 4.0])
def test_arrivals_have_the_rate_and_the_burstiness_asked_for(burstiness):
    work = WorkModel(rate_per_s=50.0, burstiness=burstiness)
    arrivals = draw_arrivals(work, 2_000_000, generator(1, Stream.ARRIVALS))
    gaps = np.diff(arrivals)
    assert arrivals[-1] < 2_000_000_000
    assert (gaps >= 0).all()
    assert len(arrivals) / 2_000 == pytest.approx(50, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness, rel=0.1)


@pytest.mark.parametrize(
    ("lengths", "prompt_p50", "prompt_p95", "output_p50", "output_p95"),
    [("azure_conversation", 1020, 4083, 129, 451), ("azure_code", 1469, None, 13, None)],
)
def test_lengths_follow_the_published_traces(lengths, prompt_p50, prompt_p95, output_p50, output_p95):
    work = {"lengths": lengths, "rate_per_s": 1_000.0, "max_prompt": 10**6, "max_output": 10**6}
    drawn = draw_workload(scenario(20_000, **work), 1)
    for tokens, median, high in (
        (drawn.prompt_tokens, prompt_p50, prompt_p95),
        (drawn.output_tokens, output_p50, output_p95),
    ):
        assert np.median(tokens) == pytest.approx(median, rel=0.3)
        assert min(tokens) >= 1
        if high is not None:
            # the fit's tail of answers is heavier than the trace's
            assert np.percentile(tokens, 95) == pytest.approx(high, rel=0.4)


@pytest.mark.parametrize(
    ("exponent", "top_1", "top_10_percent"), [(0.1, 0.50, 0.80), (0.3, 0.127, 0.50), (1, 0.001, 0.1)]
)
def test_power_skew_is_that_of_s_lora(exponent, top_1, top_10_percent):
    model = AdapterModel(count=1_000, power=exponent)
    drawn = draw_adapters(model, generator(1, Stream.CHOICES), 100_000)
    assert (drawn == 0).mean() == pytest.approx(top_1, rel=0.1, abs=0.001)
    assert (drawn < 100).mean() == pytest.approx(top_10_percent, rel=0.05)
    assert 0 <= drawn.min() <= drawn.max() < 1_000


def test_zipf_halves_from_first_to_second():
    drawn = draw_adapters(AdapterModel(count=50), generator(1, Stream.CHOICES), 200_000)
    assert (drawn == 0).sum() / (drawn == 1).sum() == pytest.approx(2, rel=0.05)


def test_some_ask_the_base_alone_and_nobody_where_there_are_no_adapters():
    drawn = draw_workload(scenario(rate_per_s=50.0, adapters={"base_share": 0.25}), 1)
    assert sum(adapter == NO_ADAPTER for adapter in drawn.adapter) / len(drawn) == pytest.approx(
        0.25, abs=0.03
    )
    assert set(draw_workload(scenario(adapters={"count": 0}), 1).adapter) == {NO_ADAPTER}


def test_a_seed_is_a_workload_and_streams_do_not_disturb_each_other():
    plain = draw_workload(scenario(), 5)
    assert plain == draw_workload(scenario(), 5)
    assert plain.arrival_us != draw_workload(scenario(), 6).arrival_us
    longer = draw_workload(scenario(lengths="azure_code"), 5)
    assert (longer.arrival_us, longer.adapter, longer.payer) == (plain.arrival_us, plain.adapter, plain.payer)


def test_unknown_lengths_are_named():
    with pytest.raises(ConfigError, match=r"unknown work\.lengths 'long'; choose one of: short"):
        check_lengths(WorkModel(lengths="long"))


def test_bursts_keep_the_mean_rate_and_cluster():
    calm = WorkModel(rate_per_s=50.0)
    bursts = replace(calm, arrivals="bursts", burst_factor=20.0)
    counts = [
        np.bincount(draw_arrivals(work, 4_000_000, generator(3, Stream.ARRIVALS)) // 5_000_000)
        for work in (calm, bursts)
    ]
    assert counts[1].sum() == pytest.approx(200_000, rel=0.2)
    assert counts[1].var() > 20 * counts[0].var()


def test_a_day_swings_about_its_mean():
    work = WorkModel(rate_per_s=100.0, diurnal=0.8, day_ms=1_000_000)
    arrivals = draw_arrivals(work, 1_000_000, generator(1, Stream.ARRIVALS))
    night, noon = ((arrivals // 250_000_000 == quarter) for quarter in (0, 2))
    assert len(arrivals) == pytest.approx(100_000, rel=0.03)
    assert noon.sum() > 1.5 * night.sum()
    assert (arrivals < 50_000_000).sum() == pytest.approx(0.2 * 5_000, rel=0.25)


@pytest.mark.parametrize("shape", [0.7, 1.0])
def test_lives_alternate_and_have_the_mean_asked_for(shape):
    churn = ChurnModel(mean_lifetime_ms=1_000, shape=shape, mean_absence_ms=500)
    lives = draw_lives(churn, 3_000_000, 1, 0)
    assert all(born < died for born, died in lives)
    assert all(died < born for (_, died), (born, _) in pairwise(lives))
    assert np.mean([died - born for born, died in lives]) == pytest.approx(1e6, rel=0.1)
    assert lives != draw_lives(churn, 3_000_000, 1, 1)
    (only,) = draw_lives(replace(churn, mean_lifetime_ms=0), 3_000_000, 1, 0)
    assert only[0] == 0
    assert only[1] > 3_000_000_000
