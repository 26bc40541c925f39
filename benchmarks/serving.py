"""`python -m benchmarks.serving --json`: many adapters on one base, this project's engine and its peers on
the same machine, one thread each.

The result is one JSON object, the last line on standard output. `rows` has tokens per CPU-second and per
second as [median, lowest, highest] of the rounds; `ratio_…` compare CPU-seconds, and `compared` says of
each which arms it is of; `parts` says of each part when it was measured, how much, and under which load.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from commonlore.worker.models.importing import import_base

from .child import Message, note
from .engines.campaign import PARTS, POWER, Outcome, Plan, run
from .engines.catalogue import ARMS, BY_NAME, DEFAULT
from .engines.loads import ROWS
from .engines.material import Material, prepare_material
from .engines.rows import (
    OWN,
    Ratio,
    Samples,
    agreement,
    all_ratios,
    headline,
    ratio,
    row_message,
    unquantised_headline,
)
from .machine import describe_machine, load_average, versions

HEADLINES = {
    "ratio_base1_vs_best_peer": "base1",
    "ratio_base8_vs_best_peer": "base8",
    "ratio_same8_vs_best_peer": "same8",
    "ratio_mixed8_vs_best_peer": "mixed8",
    "ratio_power32_vs_best_peer": POWER,
}
OWN_PAIR = "ratio_mixed8_vs_own_base8"
AIMS = {
    "ratio_base1_vs_best_peer": "≥ 1",
    "ratio_base8_vs_best_peer": "≥ 1.5",
    "ratio_mixed8_vs_best_peer": "≥ 3",
    "ratio_base8_vs_best_unquantised_peer": "",
    "ratio_mixed8_vs_best_unquantised_peer": "",
    "ratio_power32_vs_best_peer": "",
    OWN_PAIR: "≥ 0.9",
    "cold_ready_ms": "≤ 15, flat",
    "ram_to_slot_ms": "≤ 3",
    "cliff_p99_ratio": "≤ 3",
}


def measure(plan: Plan) -> Message:
    """The whole result. Every process has ended when this returns."""
    began, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), load_average()
    base = import_base(plan.base)
    material = prepare_material(base, plan.adapters)
    with tempfile.TemporaryDirectory(prefix="commonlore-bench-") as folder:
        outcome = run(plan, material, Path(folder))
    measured = {"date": began, "load_before": load, "load_after": load_average(), "plan": asdict(plan)}
    return assemble(outcome, material) | {
        "parts": dict.fromkeys(plan.parts, measured),
        "machine": describe_machine(),
        "versions": versions(),
    }


def assemble(outcome: Outcome, material: Material) -> Message:
    """Rows, arms, ratios and latencies; of what was not measured, nothing."""
    result: Message = {"base": material.base.label.name, "arms": outcome.facts, "absent": outcome.absent}
    result["rows"] = [row_message(row, arm, samples) for (row, arm), samples in outcome.samples.items()]
    result |= _ratios(outcome.samples) | _agreement(outcome.samples, material)
    if outcome.arrivals:
        result["arrivals"] = outcome.arrivals
        result["cliff_p99_ratio"] = outcome.arrivals.get(OWN, {}).get("p99_ttft_ratio")
    if outcome.moved.from_disk:
        result["latency"] = {"disk": outcome.moved.from_disk, "memory": outcome.moved.from_memory}
        own = outcome.moved.from_disk.get(OWN, {})
        result["cold_ready_ms"] = {present: timed["ms"][0] for present, timed in own.items()}
        result["ram_to_slot_ms"] = outcome.moved.from_memory.get(OWN, {}).get("ms", [None])[0]
    return result


def _ratios(samples: Samples) -> Message:
    found: dict[str, Ratio] = {}
    for name, row in HEADLINES.items():
        if (compared := headline(samples, row)) is not None:
            found[name] = compared
        if (compared := unquantised_headline(samples, row)) is not None:
            found[name.replace("best_peer", "best_unquantised_peer")] = compared
    if (own := ratio(samples, ("mixed8", OWN), ("base8", OWN))) is not None:
        found[OWN_PAIR] = own
    ours = [arm for arm in ARMS if arm.ours]
    every = {row: each for row in (*ROWS, POWER) if (each := all_ratios(samples, row, ours))}
    return {
        **{name: each.value for name, each in found.items()},
        "compared": {name: each.message() for name, each in found.items()},
        "ours_vs_best_peer": every,
    }


def _agreement(samples: Samples, material: Material) -> Message:
    """How often an arm's answer begins as ours does: whether it computes the same, the adapters included."""
    tokenizer = material.base.tokenizer()
    shares = {
        f"{row} {arm}": agreement(samples[row, OWN], theirs, lambda token: tokenizer.decode([token]))
        for (row, arm), theirs in samples.items()
        if arm != OWN and (row, OWN) in samples
    }
    return {
        "first_token_agrees_with_ours": {name: share for name, share in shares.items() if share is not None}
    }


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Message:
    """A result with the parts that were not measured now, from an earlier one."""
    measured = {row["row"] for row in new["rows"]}
    kept = [row for row in old.get("rows", []) if row["row"] not in measured]
    arms = {
        name: old.get("arms", {}).get(name, {})
        | facts
        | {"memory_mib": old.get("arms", {}).get(name, {}).get("memory_mib", {}) | facts["memory_mib"]}
        for name, facts in new["arms"].items()
    }
    nested = {
        name: old.get(name, {}) | new[name]
        for name in ("compared", "ours_vs_best_peer", "first_token_agrees_with_ours", "parts")
    }
    return {**old, **new, **nested, "rows": [*kept, *new["rows"]], "arms": old.get("arms", {}) | arms}


def _print_table(result: Mapping[str, Any]) -> None:
    for row in result["rows"]:
        cpu, wall = row["tokens_per_cpu_s"], row["tokens_per_s"]
        print(f"{row['row']:8} {row['arm']:16} {cpu[0]:8} tok/CPU-s ({cpu[1]} … {cpu[2]}) {wall[0]:8} tok/s")
    for name, aim in AIMS.items():
        print(f"{name:28} {result.get(name)}   {aim and f'(aim {aim})'}")
    for arm, why in result["absent"].items():
        print(f"absent: {arm}: {why}")


def plan_of(options: argparse.Namespace) -> Plan:
    """What the command line asks for. Raises ValueError for an unknown arm or part."""
    arms, parts = tuple(options.arms.split(",")), tuple(options.parts.split(","))
    for unknown in {*arms} - BY_NAME.keys() | {*parts} - {*PARTS}:
        raise ValueError(
            f"unknown arm or part {unknown!r}: arms are {', '.join(BY_NAME)}; parts {', '.join(PARTS)}"
        )
    plan = Plan(options.base, arms, parts, rounds=options.rounds, power_adapters=options.adapters)
    plan = replace(
        plan, present=tuple(count for count in (1, 100, options.adapters) if count <= options.adapters)
    )
    if options.quick:
        few = {
            "answer_tokens": 4,
            "power_rounds": 1,
            "power_asks": 16,
            "power_concurrency": 16,
            "arriving": 8,
        }
        plan = replace(plan, **few, rounds=1, power_adapters=40, present=(1, 12), moved=2)
    return plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the JSON to this file, too")
    parser.add_argument("--keep", action="store_true", help="keep --out's parts that are not measured now")
    parser.add_argument("--base", default="starter", help="base model: starter, tiny, …")
    parser.add_argument("--arms", default=",".join(DEFAULT), help="arms by name, with commas")
    parser.add_argument("--parts", default=",".join(PARTS), help="rows, arrivals, power, latency")
    parser.add_argument("--rounds", type=int, default=5, help="of the rows")
    parser.add_argument("--adapters", type=int, default=1000, help="how many there are, 4.9 MB each on disk")
    parser.add_argument("--quick", action="store_true", help="a few of everything: whether it runs at all")
    options = parser.parse_args(arguments)
    try:
        plan = plan_of(options)
    except ValueError as wrong:
        parser.error(str(wrong))
    result = measure(plan)
    if options.keep and options.out and options.out.exists():
        result = merged(json.loads(options.out.read_text(encoding="utf-8")), result)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    note("done")
    if options.json:
        print(json.dumps(result), flush=True)
    else:
        _print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
