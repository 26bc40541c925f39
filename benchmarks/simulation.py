"""`python -m benchmarks.simulation --json`: what the simulator does in a second, and how well it predicts.

Four things: the bare event kernel beside simpy on one model (agents that each wait an exponential time, again
and again); the real scheduler over closed-form workers at 1,000 to 100,000 peers, compiled and interpreted,
each run in a process of its own; the shape of Vidur's capacity search (Agrawal et al., MLSys 2024: the
highest load whose 99th percentile of scheduling delay stays below 5 s) for its three global policies and
ours; and the calibration's error on a held-out run of real nodes, by experiment E6's logs. The last line of
the output is one JSON object. `--parts` takes some of it; with `--out` what was measured before stays, and
each part says when it was taken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from commonlore.protocol.errors import MissingDependency
from commonlore.simulations.compiled.switch import SWITCH, built, is_compiled
from commonlore.simulations.experiment.models import Scenario
from commonlore.simulations.experiment.scenario import load_experiment, scenario_path
from commonlore.simulations.modelled.kernel import Kernel, rare_collection
from commonlore.simulations.network.crowd import Crowd
from commonlore.simulations.studies.calibration import run_calibration
from commonlore.simulations.studies.service import run_service

from .child import ROOT, note
from .figures import rounded
from .machine import describe_machine, load_average

ASKS = {1_000: 100_000, 10_000: 300_000, 100_000: 1_000_000}
ASKS_PER_PEER_PER_S = 0.3
"""What a worker of scenario `large` serves without trouble."""
POLICY = "affinity_and_load"
GLOBAL_POLICIES = ("affinity_and_load", "least_outstanding", "round_robin", "random")
DELAY_BORNE_S = 5.0
SETTLED_MS = 2_000
"""When all adverts have come."""
KERNEL_EVENTS = 300_000
CALIBRATION = ("ttft_p50_err", "ttft_p95_err", "tpot_p50_err", "tpot_p95_err")


# ---- the kernel alone


def bare_events_per_s(peers: int, events: int) -> float:
    """Agents that wait an exponential time each, on our kernel; a second of the processor."""
    kernel, wait, seen = Kernel(), random.Random(1).expovariate, [0] * peers

    def act(agent: int) -> int:
        seen[agent] += 1
        return int(wait(1e-6))

    for agent in range(peers):
        kernel.at(int(wait(1e-6)), act, agent)
    started = time.process_time()
    kernel.run(until_us=int(events / peers * 1e6))
    return kernel.events / (time.process_time() - started)


def simpy_events_per_s(peers: int, events: int) -> float:
    """The same model on simpy."""
    import simpy

    wait, seen = random.Random(1).expovariate, [0] * peers
    environment = simpy.Environment()

    def agent(number: int):  # type: ignore[no-untyped-def]
        while True:
            yield environment.timeout(wait(1.0))
            seen[number] += 1

    for number in range(peers):
        environment.process(agent(number))
    for _ in range(peers):
        environment.step()
    started = time.process_time()
    environment.run(until=events / peers)
    return sum(seen) / (time.process_time() - started)


def best(measure: Callable[[int, int], float], peers: int, events: int, tries: int = 3) -> float:
    """The fastest of several: the others were held up."""
    return max(measure(peers, events) for _ in range(tries))


# ---- the scheduler at size


def large(peers: int, asks: int, policy: str) -> Scenario:
    """Scenario `large` with so many peers and about so many asks."""
    rate = peers * ASKS_PER_PEER_PER_S
    overrides = {
        "workers.count": peers,
        "adapters.count": 2 * peers,
        "work.rate_per_s": rate,
        "scheduler.policy": policy,
        "warmup_ms": 0,
        "duration_ms": SETTLED_MS + int(asks / rate * 1000),
        "work.start_ms": SETTLED_MS,
        "scheduler.max_workers": 2 * peers,
        "scheduler.max_asks": 1_000_000,
    }
    experiment = load_experiment(scenario_path("large"), {key: (value,) for key, value in overrides.items()})
    scenario = experiment.arms[0].scenario
    assert isinstance(scenario, Scenario)
    return scenario


def run_large(peers: int, asks: int, policy: str) -> dict[str, float]:
    """One run in this process: its figures, and the memory that it took at most."""
    started, began_cpu_s = time.perf_counter(), time.process_time()
    with rare_collection():
        crowd = Crowd(large(peers, asks, policy), 0)
    ready = time.perf_counter()
    crowd.run()
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - began_cpu_s
    rows = crowd.rows()
    return {
        "compiled": is_compiled(),
        "seconds": rounded(seconds),
        "set_up_s": rounded(ready - started),
        "asks": len(rows["ask"]),
        "completed": sum(code == "completed" for code in rows["outcome"]),
        "asks_per_s": rounded(len(rows["ask"]) / seconds),
        "cpu_s": rounded(cpu_s),
        "asks_per_cpu_s": rounded(len(rows["ask"]) / cpu_s),
        "events": crowd.kernel.events,
        "events_per_s": rounded(crowd.kernel.events / seconds),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def run_apart(peers: int, asks: int, policy: str, *, compiled: bool) -> dict[str, float]:
    """The same in a process of its own, whose memory is its own."""
    command = [sys.executable, "-m", "benchmarks.simulation", "--one", str(peers), str(asks), policy]
    environment = {**os.environ, SWITCH: str(int(compiled))}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=1_200, cwd=ROOT, env=environment
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


# ---- the shape of Vidur's experiments


def wait_p99_s(policy: str, rate: float, scale: float) -> float:
    """The 99th percentile of scheduling delay of scenario `capacity` at a load, in seconds."""
    overrides: dict[str, tuple[object, ...]] = {"scheduler.policy": (policy,), "work.rate_per_s": (rate,)}
    if scale < 1:
        overrides |= {"warmup_ms": (1_000,), "duration_ms": (4_000,)}
    experiment = load_experiment(scenario_path("capacity"), overrides)
    figures = run_service(experiment.arms[0].scenario, 0).summary
    return float(figures["wait_p99_ms"]) / 1000


def capacity(policy: str, scale: float) -> float:
    """Asks a second that sixteen replicas bear: the highest load, by bisection, with that delay below 5 s."""
    low, high = 10.0, 160.0
    for _ in range(6 if scale >= 1 else 1):
        middle = (low + high) / 2
        low, high = (middle, high) if wait_p99_s(policy, middle, scale) < DELAY_BORNE_S else (low, middle)
    return rounded(low)


# ---- the whole


def measure_kernel(sizes: Sequence[int], scale: float) -> dict[str, object]:
    """The bare kernel beside simpy."""
    kernel: dict[str, dict[str, float]] = {}
    for size in sizes:
        events = int(KERNEL_EVENTS * scale)
        ours, theirs = best(bare_events_per_s, size, events), best(simpy_events_per_s, size, events)
        figures = {"events_per_s": ours, "simpy_events_per_s": theirs, "ratio": ours / theirs}
        kernel[str(size)] = {name: rounded(figure) for name, figure in figures.items()}
        note(f"kernel at {size}: {kernel[str(size)]}")
    return {"kernel": kernel, "simpy_ratio": min(each["ratio"] for each in kernel.values())}


def measure_peers(sizes: Sequence[int], scale: float) -> dict[str, object]:
    """The real scheduler at size: compiled where it can be, and beside it, in turns, interpreted."""
    ways = {"peers_interpreted": False}
    try:
        built()
        ways["peers"] = True
    except MissingDependency as wrong:
        note(str(wrong))
        ways = {"peers": False}
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in ways}
    for size in sizes:
        for name, compiled in ways.items():
            found[name][str(size)] = run_apart(size, int(ASKS[size] * scale), POLICY, compiled=compiled)
            note(f"scheduler at {size}: {found[name][str(size)]}")
    return {**found, "policy": POLICY}


def measure_capacity(_sizes: Sequence[int], scale: float) -> dict[str, object]:
    """The shape of Vidur's capacity search."""
    found = {}
    for policy in GLOBAL_POLICIES:
        found[policy] = capacity(policy, scale)
        note(f"capacity with {policy}: {found[policy]} asks a second")
    return {"capacity_asks_per_s": found}


def measure_calibration(_sizes: Sequence[int], scale: float) -> dict[str, object]:
    """The errors on the held-out run of the logs that experiment E6 has."""
    overrides = {} if scale >= 1 else {"calibration.evaluations": (20,)}
    arm = load_experiment(scenario_path("E6"), overrides).arms[0]
    summary = run_calibration(arm.scenario, 0).summary
    return {"calibration": {name: summary[name] for name in CALIBRATION}, "calibration_fit": summary}


PARTS: dict[str, Callable[[Sequence[int], float], dict[str, object]]] = {
    "calibration": measure_calibration,
    "kernel": measure_kernel,
    "peers": measure_peers,
    "capacity": measure_capacity,
}


def measure(parts: Sequence[str], sizes: Sequence[int], scale: float, out: Path | None) -> dict[str, object]:
    """These parts, beside those that `out` has already; it is written after each. `scale` shortens runs."""
    result: dict[str, object] = {}
    if out is not None and out.is_file():
        result = json.loads(out.read_text(encoding="utf-8"))
    for part in parts:
        load, started = load_average(), time.perf_counter()
        result |= PARTS[part](sizes, scale)
        taken = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": rounded(time.perf_counter() - started),
            "load_before": load,
            "load_after": load_average(),
        }
        note(f"{part}: {taken['seconds']} s")
        result["parts"] = {**dict(result.get("parts") or {}), part: taken}  # type: ignore[call-overload]
        result["machine"] = describe_machine()
        if out is not None:
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.simulation", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the JSON here, too; other parts that it has stay")
    parser.add_argument("--parts", default=",".join(PARTS), help="which to measure: " + ", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a hundredth of it: whether it runs at all")
    parser.add_argument("--sizes", default="1000,10000,100000", help="peers")
    parser.add_argument("--one", nargs=3, metavar=("PEERS", "ASKS", "POLICY"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(run_large(int(options.one[0]), int(options.one[1]), options.one[2])))
        return 0
    parts, sizes = options.parts.split(","), [int(each) for each in options.sizes.split(",")]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    result = measure(parts, sizes, 0.01 if options.quick else 1.0, options.out)
    print(json.dumps(result, indent=None if options.json else 1), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
