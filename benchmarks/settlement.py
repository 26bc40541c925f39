"""`python -m benchmarks.settlement --json`: what settlement costs in gas, time and memory.

The result is one JSON object, the last line on standard output. Gas is that of signed transactions on the
embedded chain (py-evm, Prague). `gas_per_receipt` is that of a lane in its stride: channels that were
redeemed before, accounts that were paid before, redemptions and claims in the batches that a node sends;
whole epochs at size are these batches added up, each size measured once. The million receipts are folded into
trees, and proved, in a process of their own. `--gas` measures gas again, which no load changes, and keeps the
committed times with when and where they were taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .figures import rounded
from .machine import describe_machine, load_average, versions
from .settling.checkers import measure_checkers
from .settling.entries import gas_table, measure_handovers, measure_rest
from .settling.gas import SCALES, measure_epochs, measure_frauds

RESULTS = Path(__file__).parent / "results"
MUTANTS = RESULTS / "mutants.json"
AIMS = {
    "gas_per_receipt 10000": "post + redeem ≤ 600",
    "gas_per_receipt 1000000": "post + redeem ≤ 60",
    "Settlement.postEpoch": "≤ 85,000",
    "fold_1m_seconds": "≤ 60",
    "verify_per_s": "≥ 10,000",
}
OTHERS: dict[str, dict[str, Any]] = {
    "GraphTally (TAP)": {
        "post": 0,
        "redeem": 150_000,
        "claim": 0,
        "source": "estimated from its contracts (four calls deep): one collect for each payer and receiver",
    },
    "CumulativeMerkleDrop": {
        "post": 30_400,
        "redeem": 0,
        "claim": 54_500,
        "source": "measured earlier on 1inch's code, ten steps a claim; its root is trusted",
    },
    "EigenLayer RewardsCoordinator": {
        "post": 60_000,
        "redeem": 0,
        "claim": 100_000,
        "source": "estimated from its contracts; its root is one updater's, no fraud is provable",
    },
}
"""What others cost: gas of a root, of a payment channel's redemption, of a repeated claim. Not measured in
this run."""


def measure(receipts: int, signatures: int) -> dict[str, Any]:
    """The whole result."""
    began = _stamp()
    folded, gas = _fold(receipts, signatures), measure_gas()
    fold, signing = folded["fold"], folded["signing"]
    return gas | {
        "fold_1m_seconds": rounded(fold["seconds"] * 1_000_000 / fold["receipts"]),
        "fold_1m_peak_mb": rounded(fold["peak_mb"]),
        "verify_per_s": rounded(signing["verify_per_s"]),
        "sign_per_s": rounded(signing["sign_per_s"]),
        "detail": {**gas["detail"], "fold": fold, "signing": signing},
        "timed": began,
    }


def measure_gas_again(kept: dict[str, Any]) -> dict[str, Any]:
    """A kept result with its gas measured anew."""
    gas, times = measure_gas(), {name: kept["detail"][name] for name in ("fold", "signing")}
    timed = kept.get("timed") or {"date": kept["date"], "machine": kept["machine"]}
    return kept | gas | {"detail": gas["detail"] | times, "timed": timed}


def _stamp() -> dict[str, Any]:
    date, machine = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), describe_machine()
    return {"date": date, "machine": machine | {"load_before": load_average()}}


def measure_gas() -> dict[str, Any]:
    """Everything but times."""
    began = _stamp()
    frauds, proofs = measure_frauds()
    per_receipt, detail = measure_epochs()
    entry_points: Any = detail.pop("entry_points")
    aside = (measure_checkers(), measure_handovers(), proofs, measure_rest())
    gas = {name: used for measured in aside for name, used in gas_table(measured).items()}
    return {
        "gas": gas | entry_points,
        "gas_per_receipt": {
            count: {name: rounded(gas) for name, gas in parts.items()} for count, parts in per_receipt.items()
        },
        "fraud_gas": frauds,
        **_mutants(),
        "compared": _compared(),
        "detail": detail,
        "date": began["date"],
        "machine": began["machine"] | {"load_after": load_average()},
        "versions": versions(),
    }


def _fold(receipts: int, signatures: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.settling.fold"]
    arguments = ["--receipts", str(receipts), "--signatures", str(signatures)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _mutants() -> dict[str, int | None]:
    """What the last mutation run said; None where there was none."""
    if not MUTANTS.exists():
        return {"mutants_planted": None, "mutants_killed": None}
    found = json.loads(MUTANTS.read_text())
    return {"mutants_planted": found["mutants_planted"], "mutants_killed": found["mutants_killed"]}


def _compared() -> dict[str, dict[str, Any]]:
    """Gas per receipt of others at the same sizes, from what one call of each costs."""
    return {
        name: {
            str(scale.receipts): rounded(
                (costs["post"] + costs["redeem"] * scale.channels + costs["claim"] * scale.claims)
                / scale.receipts
            )
            for scale in SCALES
        }
        | {"source": costs["source"]}
        for name, costs in OTHERS.items()
    }


def describe(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"post {result['gas']['Settlement.postEpoch']:,} gas, whatever the number of receipts"]
    for count, parts in result["gas_per_receipt"].items():
        whole = parts["post"] + parts["redeem"]
        lines.append(f"{int(count):>9,} receipts: {whole:,.5g} gas each, and claims {parts['claims']:,.5g}")
    cheapest, dearest = min(result["fraud_gas"].values()), max(result["fraud_gas"].values())
    lines.append(f"fraud proofs: {cheapest:,} to {dearest:,} gas")
    lines.append(
        f"a million receipts folded and proved in {result['fold_1m_seconds']} s,"
        f" {result['fold_1m_peak_mb']} MB"
    )
    lines.append(
        f"{result['sign_per_s']:,.0f} signed, {result['verify_per_s']:,.0f} verified a second, one core"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settlement", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument("--signatures", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="write the result into this file too")
    parser.add_argument(
        "--gas", action="store_true", help="gas alone; keep the times of the committed result"
    )
    options = parser.parse_args()
    if options.gas:
        result = measure_gas_again(json.loads((RESULTS / "settlement.json").read_text()))
    else:
        result = measure(options.receipts, options.signatures)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(describe(result))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
