"""A cost model is found again from a log that it made, and predicts another one."""

import json
import random

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.api import simulate
from commonlore.simulations.modelled.workers import EngineSpeed
from commonlore.simulations.studies.replay import Served, read_log, replay

TRUE = EngineSpeed(
    max_batch=8,
    slots=16,
    disk=1 << 20,
    step_us=20_000,
    step_us_per_sequence=5_000,
    prefill_us_per_token=700,
    load_us=60_000,
    download_us=0,
    overhead_us=15_000,
)


def drawn(draw, count, gap_ms=400):
    """A worker's asks."""
    now, seen, asks = 1_000_000, set(), []
    for _ in range(count):
        now += int(draw.expovariate(1 / gap_ms))
        adapter = draw.randrange(6)
        asks.append(
            Served(now, adapter, adapter in seen, draw.randrange(20, 200), draw.randrange(2, 40), 0, 0, True)
        )
        seen.add(adapter)
    return asks


def made_up(seed, count=80, workers=1, contention_ppm=0, gap_ms=400):
    """Workers' asks with the times of the true model, and a little noise."""
    draw = random.Random(seed)
    logs = [drawn(draw, count, gap_ms) for _ in range(workers)]
    told = replay(logs, TRUE, contention_ppm)
    return [entries(draw, *pair) for pair in zip(logs, told, strict=True)]


def entries(draw, asks, told):
    """A worker's log."""
    return [
        {
            "arrived_ms": ask.arrived_ms,
            "held": ask.held,
            "adapter": f"adapter-{ask.adapter}",
            "prompt_tokens": ask.prompt_tokens,
            "delivered": 0,
            "output_tokens": ask.output_tokens,
            "first_ms": (first := each.first_ms * draw.lognormvariate(0, 0.05)),
            "last_ms": first + each.token_ms * (ask.output_tokens - 1) * draw.lognormvariate(0, 0.05),
            "finish": "stop",
        }
        for ask, each in zip(asks, told, strict=True)
    ]


def write(path, lines):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))


@pytest.fixture
def scenario(tmp_path):
    for name, seed in (("fit.jsonl", 1), ("other.jsonl", 2)):
        write(tmp_path / name, made_up(seed)[0])
    path = tmp_path / "mine.toml"
    path.write_text(
        'kind = "calibration"\nname = "mine"\nabout = ""\n[calibration]\n'
        'fit = ["fit.jsonl"]\nheld_out = ["other.jsonl"]\nevaluations = 160\n'
    )
    return path


def test_the_model_is_found_and_predicts(scenario):
    summary = simulate(scenario).columns
    found = {name: summary[name][0] for name in summary}
    assert found["step_us"] + 2 * found["step_us_per_sequence"] == pytest.approx(30_000, rel=0.1)
    assert found["overhead_us"] + 100 * found["prefill_us_per_token"] == pytest.approx(85_000, rel=0.1)
    for name in ("ttft_p50_err", "tpot_p50_err"):
        assert found[name] < 0.15
    for name in ("ttft_p95_err", "tpot_p95_err"):
        assert found[name] < 0.3


def test_workers_of_one_machine_are_found_to_slow_each_other(tmp_path):
    for name, seed in (("fit", 1), ("other", 2)):
        for number, log in enumerate(made_up(seed, 40, 2, 800_000, gap_ms=1_200)):
            write(tmp_path / f"{name}{number}", log)
    found = {}
    for one_machine in (True, False):
        path = tmp_path / "mine.toml"
        path.write_text(
            'kind = "calibration"\nname = "mine"\nabout = ""\n[calibration]\n'
            'fit = ["fit0", "fit1"]\nheld_out = ["other0", "other1"]\nevaluations = 200\n'
            f"one_machine = {str(one_machine).lower()}\n"
        )
        found[one_machine] = simulate(path).columns
    assert found[True]["contention_ppm"][0] == pytest.approx(800_000, rel=0.2)
    for name in ("ttft_answer_err", "tpot_answer_err"):
        assert found[True][name][0] < 0.12 < found[False][name][0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: no entry of a request log"),
        ('{"arrived_ms": 1}', "line 2: no entry of a request log: KeyError"),
        (json.dumps(made_up(3, 1)[0][0] | {"first_ms": float("nan")}), "times that do not follow"),
        (json.dumps(made_up(3, 1)[0][0] | {"output_tokens": -1}), "negative"),
    ],
)
def test_a_wrong_line_is_named(scenario, tmp_path, line, reason):
    first = json.dumps(made_up(3, 1)[0][0])
    (tmp_path / "fit.jsonl").write_text(f"{first}\n{line}\n")
    with pytest.raises(ConfigError, match=r"mine\.toml, line 5: .*") as wrong:
        simulate(scenario)
    assert reason in str(wrong.value)


def test_an_empty_log_is_refused(scenario, tmp_path):
    (tmp_path / "other.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"line 6: calibration\.held_out: .* holds no two whole answers"):
        simulate(scenario)


def test_answers_that_broke_off_are_read_but_not_compared(tmp_path):
    log = made_up(4, 5)[0]
    log[0]["finish"] = "aborted"
    write(tmp_path / "log", log)
    assert [each.is_measured for each in read_log(tmp_path / "log", "key")] == [False] + [True] * 4
