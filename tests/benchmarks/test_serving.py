"""The serving benchmark's arithmetic, jobs and command line; and that a quick run says what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks` is a folder of the repository, not of the package."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def rows() -> ModuleType:
    from benchmarks.engines import rows

    return rows


def sample(rows: ModuleType, speed: float, begins: tuple[int | str, ...] = (), ttft: float = 1.0) -> Any:
    """100 tokens at `speed` a CPU-second, half as fast by the wall."""
    return rows.Sample(200 / speed, 100 / speed, 100, (ttft,), (ttft,), begins)


# ---- figures


def test_a_row_is_the_median_of_its_rounds_and_says_how_precise_the_weights_are(rows: ModuleType) -> None:
    row = rows.row_message("base8", "llama-q4_1", [sample(rows, speed) for speed in (30, 10, 20)])
    assert row["tokens_per_cpu_s"] == [20, 10, 30]
    assert row["tokens_per_s"] == [10, 5, 15]
    assert (row["precision"], row["rounds"]) == ("q4_1", [30, 10, 20])


def test_latencies_are_percentiles_over_all_answers_of_all_rounds(rows: ModuleType) -> None:
    found = rows.latencies([sample(rows, 1, ttft=float(value)) for value in range(1, 101)])
    assert (found["ttft_ms_p50"], found["ttft_ms_p99"]) == (50, 99)


def test_the_cliff_is_the_slowest_first_tokens_with_more_adapters_than_slots(rows: ModuleType) -> None:
    from benchmarks.engines.campaign import arrivals_message

    few, many = ([sample(rows, 10, ttft=value)] * 2 for value in (20.0, 50.0))
    found = arrivals_message(2.0, {8: few, 32: many})
    assert (found["p99_ttft_ratio"], found["asks_per_s"]) == (2.5, 2.0)
    assert found["active"]["8"]["processor_share"] == 0.5
    assert found["active"]["32"]["ttft_ms_p99"] == 50.0


def test_a_ratio_compares_round_with_round(rows: ModuleType) -> None:
    slowing = {
        ("base8", "ours-bf16"): [sample(rows, speed) for speed in (300, 30, 3)],
        ("base8", "vllm-bf16"): [sample(rows, speed) for speed in (100, 10, 2)],
    }
    found = rows.ratio(slowing, ("base8", "ours-bf16"), ("base8", "vllm-bf16"))
    assert found.message()["ratio"] == [3.0, 1.5, 3.0]
    assert found.message()["theirs"] == "base8 vllm-bf16"


def test_a_side_that_was_not_measured_gives_no_ratio(rows: ModuleType) -> None:
    alone = {("base8", "ours-bf16"): [sample(rows, 1)]}
    assert rows.ratio(alone, ("base8", "ours-bf16"), ("base8", "vllm-bf16")) is None
    assert rows.headline(alone, "base8") is None
    assert rows.all_ratios(alone, "base8", []) == {}


@pytest.mark.parametrize(
    ("peers", "has_int4", "ours", "theirs"),
    [
        ({"vllm-bf16": 60, "llama-q4_0": 50}, True, "ours-bf16", "vllm-bf16"),
        ({"vllm-bf16": 40, "llama-q4_0": 50}, True, "ours-int4", "llama-q4_0"),
        ({"vllm-bf16": 40, "llama-q4_0": 50}, False, "ours-bf16", "llama-q4_0"),
        ({"vllm-bf16": 40, "llama-q8_0": 50}, True, "ours-bf16", "llama-q8_0"),
        ({"peft-fp32": 40}, True, "ours-bf16", "peft-fp32"),
    ],
)
def test_the_headline_is_against_the_fastest_peer_at_like_precision(
    rows: ModuleType, peers: dict[str, float], has_int4: bool, ours: str, theirs: str
) -> None:
    own = {"ours-bf16": 90, "ours-int4": 80} if has_int4 else {"ours-bf16": 90}
    samples = {("mixed8", arm): [sample(rows, speed)] for arm, speed in (peers | own).items()}
    found = rows.headline(samples, "mixed8")
    assert (found.ours[1], found.theirs[1]) == (ours, theirs)
    assert found.value == pytest.approx(own[ours] / peers[theirs], rel=1e-3)


def test_beside_a_quantised_peer_the_best_unquantised_one_is_compared_too(rows: ModuleType) -> None:
    speeds = {"ours-bf16": 90, "ours-int4": 99, "vllm-bf16": 30, "peft-fp32": 45, "llama-q4_0": 100}
    samples = {("mixed8", arm): [sample(rows, speed)] for arm, speed in speeds.items()}
    found = rows.unquantised_headline(samples, "mixed8")
    assert (found.ours[1], found.theirs[1], found.value) == ("ours-bf16", "peft-fp32", 2.0)
    only_quantised = {pair: each for pair, each in samples.items() if pair[1].startswith(("ours", "llama"))}
    assert rows.unquantised_headline(only_quantised, "mixed8") is None


def test_our_own_arms_are_never_the_best_peer(rows: ModuleType) -> None:
    samples = {("base1", arm): [sample(rows, 9)] for arm in ("ours-bf16", "ours-int4", "ours-fp32")}
    assert rows.best_peer(samples, "base1") is None


def test_agreement_compares_ids_with_ids_and_text_with_text(rows: ModuleType) -> None:
    ours = [sample(rows, 1, (5, 6, 7))]
    texts = {5: "a", 6: "b", 7: "\ufffd"}
    assert rows.agreement(ours, [sample(rows, 1, (5, 0, 7))], texts.__getitem__) == pytest.approx(2 / 3, 1e-3)
    half_a_character_cannot_be_compared = rows.agreement(
        ours, [sample(rows, 1, ("abc", "x", "é"))], texts.__getitem__
    )
    assert half_a_character_cannot_be_compared == 0.5
    assert rows.agreement(ours, [], texts.__getitem__) is None


# ---- jobs


def test_a_job_travels_whole() -> None:
    from benchmarks.engines.jobs import job_of
    from benchmarks.engines.loads import Loads

    loads = Loads(1, 500, 4, 3)
    for job in (loads.row("base1"), loads.row("mixed8"), loads.arriving(9, loads.times(5, 2.0))):
        assert job_of(json.loads(json.dumps(job.order()))) == job


def test_no_prompt_comes_twice_and_the_same_seed_draws_the_same() -> None:
    from benchmarks.engines.loads import ROWS, Loads

    drawn = [[Loads(1, 49_152, 32, 24).row(row) for row in ROWS] for _ in range(2)]
    assert drawn[0] == drawn[1]
    loads = Loads(1, 49_152, 32, 24)
    prompts = [ask.prompt for _ in range(5) for row in ROWS for ask in loads.row(row).asks]
    assert len(set(prompts)) == len(prompts)


def test_rows_ask_for_the_adapters_that_their_names_say() -> None:
    from benchmarks.engines.loads import Loads

    loads = Loads(1, 500, 4, 3)
    adapters = {row: [ask.adapter for ask in loads.row(row).asks] for row in ("base8", "same8", "mixed8")}
    assert adapters == {"base8": [None] * 8, "same8": [0] * 8, "mixed8": list(range(8))}
    assert loads.row("base1").concurrency == 1


def test_the_power_law_asks_some_adapters_often_and_many_at_all() -> None:
    from benchmarks.engines.loads import Loads

    job = Loads(1, 500, 2, 3).power_law(2000, 1000, 32)
    counts = np.bincount([ask.adapter for ask in job.asks], minlength=1000)
    assert 200 < counts[0] < 350  # 2000 / H(1000) = 267
    assert (counts > 0).sum() > 400


def test_arrivals_come_at_the_rate_that_was_wanted() -> None:
    from benchmarks.engines.loads import Loads

    times = Loads(1, 500, 2, 3).times(2000, 4.0)
    assert times == sorted(times)
    assert 2000 / times[-1] == pytest.approx(4.0, rel=0.1)


class Echo:
    """Gives each ask its tokens one a step; adapter 1 has room only while nothing else runs."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}
        self.most = 0

    def start(self, number: int, ask: Any, tokens: int) -> bool:
        if ask.adapter == 1 and self.running:
            return False
        self.running[number] = tokens
        self.most = max(self.most, len(self.running))
        return True

    def step(self) -> list[Any]:
        from benchmarks.arms.stepping import Progress

        progress = []
        for number in list(self.running):
            self.running[number] -= 1
            progress.append(Progress(number, [40 + number], not self.running[number]))
            if not self.running[number]:
                del self.running[number]
        return progress


@pytest.mark.parametrize("arrivals", [(), (0.0, 0.0, 0.0, 0.001)])
def test_the_stepping_loop_answers_every_ask_and_lets_others_pass_one_without_room(
    arrivals: tuple[float, ...],
) -> None:
    from benchmarks.arms.stepping import drive
    from benchmarks.engines.jobs import Ask, Job

    engine = Echo()
    asks = tuple(Ask((1, 2), adapter) for adapter in (None, 1, 2, 3))
    answered = drive(engine, Job(asks, 5, 3, arrivals))
    assert [one.tokens for one in answered] == [5] * 4
    assert [one.begins for one in answered] == [40, 41, 42, 43]
    assert all(one.first >= one.asked and one.last >= one.first for one in answered)
    assert answered[1].first > answered[2].first
    assert engine.most <= 3


def test_the_stepping_loop_does_not_wait_for_ever() -> None:
    from benchmarks.arms.stepping import drive
    from benchmarks.engines.jobs import Ask, Job

    class Full(Echo):
        def start(self, number: int, ask: Any, tokens: int) -> bool:
            return False

    with pytest.raises(RuntimeError, match="none can be started"):
        drive(Full(), Job((Ask((1,)),), 1, 1))


# ---- material


def test_gguf_adapters_have_llama_cpps_row_order(rows: ModuleType) -> None:
    from types import SimpleNamespace

    from benchmarks.engines.material import gguf_tensor

    shape: Any = SimpleNamespace(heads=2, kv_heads=1)
    prefix = "base_model.model.model.layers.3"
    column = np.arange(8, dtype=np.float32).reshape(8, 1)
    name, q = gguf_tensor(f"{prefix}.self_attn.q_proj.lora_B.weight", column, shape)
    assert name == "blk.3.attn_q.weight.lora_b"
    assert q[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]  # per head: halves become neighbours
    name, down = gguf_tensor(f"{prefix}.mlp.down_proj.lora_A.weight", column, shape)
    assert (name, down.tolist()) == ("blk.3.ffn_down.weight.lora_a", column.tolist())


# ---- tables


def test_tables_show_what_is_there_and_a_dash_for_what_is_not() -> None:
    from benchmarks.tables import tables

    row = {"row": "mixed8", "arm": "ours-bf16", "tokens_per_cpu_s": [3.0, 2.0, 4.0]}
    timed = {"ms": [12.0, 11.0, 13.0]}
    under = {"ttft_ms_p50": 1.0, "ttft_ms_p99": 2.0, "tpot_ms_p50": 3.0, "tpot_ms_p99": 4.0}
    result = {
        "arms": {"ours-bf16": {"memory_mib": {"rows": [5, 7], "power": [6, 9]}}},
        "rows": [row],
        "compared": {
            "ratio_mixed8_vs_best_peer": {
                "ours": "mixed8 ours-bf16",
                "theirs": "mixed8 vllm-bf16",
                "ratio": [2.0, 1.5, 2.5],
            }
        },
        "ratio_mixed8_vs_best_peer": 2.0,
        "cold_ready_ms": {"1": 12.0, "1000": 14.0},
        "latency": {"disk": {"ours-bf16": {"1000": timed, "1": timed}}, "memory": {}},
        "arrivals": {"ours-bf16": {"asks_per_s": 2.0, "active": {"8": under}}},
    }
    speeds, headlines, latencies, arrivals = tables(result)
    assert speeds.splitlines()[2] == "| `ours-bf16` | - | - | - | 3.0 (2.0 … 4.0) | - | 7 | - |"
    against = "| `ratio_mixed8_vs_best_peer` | 2.0 | 1.5 … 2.5 | `ours-bf16` | `vllm-bf16` | ≥ 3 |"
    assert against in headlines.splitlines()
    assert "| `cold_ready_ms` | 12.0 / 14.0 | - | at 1 / 1000 | - | ≤ 15, flat |" in headlines.splitlines()
    assert latencies.splitlines()[0] == "| milliseconds | disk, 1 present | disk, 1000 present | memory |"
    assert latencies.splitlines()[2] == "| `ours-bf16` | 12.0 (11.0 … 13.0) | 12.0 (11.0 … 13.0) | - |"
    assert arrivals.splitlines()[2] == "| `ours-bf16` | 2.0 | 8 | 1.0 / 2.0 | 3.0 / 4.0 |"


# ---- the command line, and a quick run


def test_the_command_line_names_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import serving

    with pytest.raises(SystemExit):
        serving.main(["--arms", "ours-bf16,nobody"])
    assert "'nobody'" in capsys.readouterr().err


def test_parts_that_are_measured_later_join_the_earlier_ones() -> None:
    from benchmarks.serving import merged

    nested: dict[str, Any] = {"compared": {}, "ours_vs_best_peer": {}, "first_token_agrees_with_ours": {}}
    arm = {"version": "1"}
    old = nested | {
        "rows": [{"row": "base1", "arm": "a"}, {"row": "power32", "arm": "a"}],
        "arms": {"a": arm | {"memory_mib": {"rows": [1, 2]}}},
        "parts": {"rows": {"date": "then"}},
        "cold_ready_ms": {"1": 5.0},
    }
    new = nested | {
        "rows": [{"row": "power32", "arm": "b"}],
        "arms": {"a": arm | {"memory_mib": {"power": [3, 4]}}},
        "parts": {"power": {"date": "now"}},
    }
    both = merged(old, new)
    assert both["rows"] == [{"row": "base1", "arm": "a"}, {"row": "power32", "arm": "b"}]
    assert both["arms"]["a"]["memory_mib"] == {"rows": [1, 2], "power": [3, 4]}
    assert both["parts"] == {"rows": {"date": "then"}, "power": {"date": "now"}}
    assert both["cold_ready_ms"] == {"1": 5.0}


def test_arms_take_turns_with_the_same_asks_and_another_begins_each_round() -> None:
    """The first round warms up, and counts for none; an arm that serves the plain base only sits out where
    adapters are asked for."""
    from benchmarks.engines.campaign import Outcome, Plan, measure_rows
    from benchmarks.engines.loads import ROWS, Loads

    arms = ("ours-fp32", "ours-bf16", "vllm-base-bf16")
    asked: list[tuple[Any, str]] = []

    class Team:
        children = dict.fromkeys(arms)

        def ask(self, arm: str, order: Any) -> dict[str, Any]:
            asked.append((order, arm))
            return {"seconds": 1, "cpu_s": 1, "tokens": 4, "ttft_ms": (), "tpot_ms": (), "begins": ()}

    outcome = Outcome()
    measure_rows(Plan(rounds=2), Team(), Loads(1, 500, 4, 3), outcome)
    turns = [[arm for _, arm in turn] for _, turn in groupby(asked, key=lambda each: each[0])]
    plain = [row.startswith("base") for row in ROWS]
    assert len(turns) == 3 * len(ROWS)
    for number, turn in enumerate(turns):
        first = number // len(ROWS)
        whole = [*arms[first:], *arms[:first]]
        assert turn == [arm for arm in whole if plain[number % len(ROWS)] or arm != "vllm-base-bf16"]
    assert {len(samples) for samples in outcome.samples.values()} == {2}


def test_a_quick_run_on_the_tiny_base_yields_everything_and_says_what_is_absent(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    options = ["--quick", "--json", "--base", "tiny", "--arms", "ours-bf16,llama-q4_1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", *options, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"COMMONLORE_CACHE": str(tmp_path), "COMMONLORE_NATIVE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads(out.read_text())
    assert list(result["absent"]) == ["llama-q4_1"]
    measured = {(row["row"], row["arm"]) for row in result["rows"]}
    assert measured == {(row, "ours-bf16") for row in ("base1", "base8", "same8", "mixed8", "power32")}
    assert all(row["tokens_per_cpu_s"][0] > 0 and row["ttft_ms_p99"] > 0 for row in result["rows"])
    assert result["ratio_mixed8_vs_own_base8"] > 0
    assert "ratio_mixed8_vs_best_peer" not in result
    assert set(result["cold_ready_ms"]) == {"1", "12"}
    assert result["ram_to_slot_ms"] > 0
    assert result["cliff_p99_ratio"] > 0
    assert result["arms"]["ours-bf16"]["memory_mib"]["rows"][1] > 0
    assert set(result["parts"]["rows"]) == {"date", "load_before", "load_after", "plan"}
