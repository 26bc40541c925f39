"""`python -m benchmarks.attribution --json`: who shaped an answer, by this project's method and by others',
held against retraining.

The result is one JSON object, the last line on standard output. `ours` and `peers` are means over seeds on
the tiny Llama with six contributors, `lds_se` over those seeds; `seeds`, `starter`, `auc_datainf`,
`auc_datainf_real`, `attacks`, `order`, `choice`, `checks` and `cost` have the rest. Every part and every
retraining is kept in --keep and taken up from there; seconds are processor seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from commonlore.worker.models.cache import default_cache_dir

from .child import note
from .influence.campaign import PARTS, Plan, run
from .influence.report import assemble, print_table
from .influence.world import Sizes
from .machine import describe_machine, load_average, versions


def plan_of(options: argparse.Namespace) -> Plan:
    """What the command line asks for. Raises ValueError for an unknown part."""
    parts = () if options.parts == "none" else tuple(options.parts.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"unknown part {unknown[0]!r}: parts are {', '.join(PARTS)}")
    plan = Plan(options.keep, parts, tuple(map(int, options.seeds.split(","))), arms=not options.no_peers)
    plan = replace(plan, slow_attacked=options.slow_peers)
    if not options.quick:
        return plan
    few = {"sizes": Sizes(6, 1, 6), "starter": "tiny", "starter_sizes": Sizes(4, 1, 3), "repeats": 6}
    few |= {"family_sizes": (4, 1), "real_family_sizes": (4, 1), "train_steps": 6, "measurements": 1}
    return Plan(options.keep / "quick", parts, (201, 202), (101,), False, **few)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.attribution", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="write the JSON to this file, too")
    default = default_cache_dir() / "benchmarks" / "attribution"
    parser.add_argument("--keep", type=Path, default=default, help="where retrainings and parts are kept")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts by name, with commas; or none")
    parser.add_argument("--seeds", default="201,202,203", help="worlds that are reported")
    parser.add_argument("--no-peers", action="store_true", help="without what needs .venv-peers")
    parser.add_argument("--slow-peers", action="store_true", help="attack the slowest peers, too")
    parser.add_argument("--quick", action="store_true", help="a few of everything: whether it runs at all")
    options = parser.parse_args(arguments)
    try:
        plan = plan_of(options)
    except ValueError as wrong:
        parser.error(str(wrong))
    torch.set_num_threads(1)
    began, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), load_average()
    result = assemble(run(plan), plan) | {
        "date": began,
        "machine": describe_machine() | {"load_before": load, "load_after": load_average()},
        "versions": versions(),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    note("done")
    if options.json:
        print(json.dumps(result), flush=True)
    else:
        print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
