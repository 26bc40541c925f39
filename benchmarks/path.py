"""`python -m benchmarks.path --json`: what the peer-to-peer path costs, against the bare engine on the same
machine.

The result is one JSON object, the last line on standard output: the figures by name, `ranges` with the
lowest and highest round of each (for TTFT the quartiles about p50, p95 and the largest about p99; for
gossip the extremes), and `detail` with what explains them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from .child import note
from .figures import Figure, rounded
from .machine import describe_machine, load_average, versions
from .nodes.arms import Serving, ServingPlan, measure_serving
from .nodes.stations import Fetches, Gossiped, StationsPlan, measure_stations

AIMS = {
    "ttft_added_ms_p50": "≤ 10",
    "throughput_ratio_8": "≥ 0.95",
    "fetch_mb_s_1": "≥ 100",
    "gossip_delivered": "1.0",
}


def measure(serving: ServingPlan, stations: StationsPlan, *, at_once: bool = False) -> dict[str, object]:
    """The whole result. Every process has ended when this returns. Raises ChildFailed."""
    date, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), load_average()
    run = _run_at_once if at_once else _run_in_turn
    with tempfile.TemporaryDirectory(prefix="commonlore-bench-") as folder:
        served, fetches, gossiped = run(serving, stations, Path(folder))
    machine = describe_machine() | {"load_before": load, "load_after": load_average()}
    plan = {"serving": asdict(serving), "stations": asdict(stations)}
    return assemble(served, fetches, gossiped) | {
        "date": date,
        "machine": machine,
        "versions": versions(),
        "plan": plan,
    }


def _run_in_turn(
    serving: ServingPlan, stations: StationsPlan, folder: Path
) -> tuple[Serving, Fetches, Gossiped]:
    note("fetching and gossip between stations")
    fetches, gossiped = measure_stations(stations, folder)
    note("serving: the path and the bare engine in turns")
    return measure_serving(serving, folder), fetches, gossiped


def _run_at_once(
    serving: ServingPlan, stations: StationsPlan, folder: Path
) -> tuple[Serving, Fetches, Gossiped]:
    """Sooner over, and its figures are worth nothing."""
    with ThreadPoolExecutor(1) as beside:
        stationed = beside.submit(measure_stations, stations, folder)
        return measure_serving(serving, folder), *stationed.result()


def assemble(served: Serving, fetches: Fetches, gossiped: Gossiped) -> dict[str, object]:
    """Figures by name, their ranges, and what explains them."""
    figures = served.figures() | fetches.figures() | gossiped.figures()
    cpu = served.together.cpu()
    detail = served.detail() | fetches.detail() | gossiped.detail()
    return {
        **{name: rounded(figure.value) for name, figure in figures.items()},
        "cpu_ms_per_request": {room: rounded(figure.value) for room, figure in cpu.items()},
        "ranges": {name: _range(figure) for name, figure in figures.items()}
        | {"cpu_ms_per_request": {room: _range(figure) for room, figure in cpu.items()}},
        "detail": _plain(detail),
    }


def _range(figure: Figure) -> list[float]:
    return [rounded(figure.low), rounded(figure.high)]


def _plain(value: object) -> object:
    """For JSON: a figure as [median, low, high]."""
    match value:
        case Figure():
            return [rounded(value.value), *_range(value)]
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
        case float():
            return rounded(value)
        case _:
            return value


def _print_table(result: Mapping[str, object]) -> None:
    ranges = result["ranges"]
    assert isinstance(ranges, Mapping)  # assemble made it
    for name, span in ranges.items():
        if not isinstance(span, Mapping):
            aim = f"   (aim {AIMS[name]})" if name in AIMS else ""
            print(f"{name:24} {result[name]!s:>10}   {span[0]} … {span[1]}{aim}")
    print(f"{'cpu_ms_per_request':24} {result['cpu_ms_per_request']}")


def plans(options: argparse.Namespace) -> tuple[ServingPlan, StationsPlan]:
    """What the command line asks for."""
    precision = "fp32" if options.base == "tiny" else "bf16"
    if options.quick:
        few = {"probes": 5, "answer_tokens": 8, "alone": 1, "together": 8, "short": 8}
        serving = ServingPlan(options.base, precision, 0, 1, **few, chain=False)
        return serving, StationsPlan(1, 1, 4, 20, 1, settling_s=0, grace_s=1)
    return ServingPlan(options.base, precision, options.seconds), StationsPlan()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.path", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the JSON to this file, too")
    parser.add_argument("--base", default="starter", help="base model: starter, tiny, …")
    parser.add_argument("--seconds", type=float, default=240, help="how long the two arms take turns")
    parser.add_argument("--quick", action="store_true", help="a few of everything: whether it runs at all")
    options = parser.parse_args(arguments)
    result = measure(*plans(options), at_once=options.quick)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stderr.flush()
    if options.json:
        print(json.dumps(result), flush=True)
    else:
        _print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
