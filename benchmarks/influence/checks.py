"""Whether strangers come to the same numbers: L1 in integers, in processes with other thread counts; L2 by
recomputing query vectors, again and again and differently."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from commonlore.protocol.attribution.scoring import compute_scores, compute_weights, sum_rows
from commonlore.worker.attribution.adapted import AdaptedModel
from commonlore.worker.attribution.gradient import compute_vectors

from ..child import ROOT
from .measures import total_variation
from .methods import Subject
from .ours import Index, Indexer, Setting, payees_of, receipt_shares

THREADS = (1, 2)
ROUNDS = 5
TV_TOLERANCE = 0.01
"""How much of an answer's pay may change hands between two honest recomputations."""


def l1_digests(index: Index, owner: np.ndarray, folder: Path) -> list[str]:
    """The digest of all receipts' weights, from a process of each thread count."""
    path = folder / "l1.npz"
    np.savez(path, rows=index.rows, questions=index.questions, owner=owner)
    return [_in_process(path, threads) for threads in THREADS]


def _in_process(path: Path, threads: int) -> str:
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.influence.checks", str(path)],
        cwd=ROOT,
        env=os.environ | counts,
        capture_output=True,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout)["digest"])


def weights_digest(path: Path) -> str:
    """Of the weights of every receipt that an index gives."""
    kept = np.load(path)
    owners = int(kept["owner"].max()) + 1
    sums = np.stack([sum_rows(kept["rows"][kept["owner"] == each]) for each in range(owners)])
    digest = hashlib.sha256()
    for question in kept["questions"]:
        for weight in compute_weights(compute_scores(question, sums), payees_of(owners)) or ():
            digest.update(weight.payee + weight.ppm.to_bytes(4, "big"))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Repeated:
    """L2: recomputations, those within the tolerance, the largest gap in pay, and the lowest cosine."""

    passed: int
    total: int
    largest_tv: float
    lowest_cosine: float


def l2_repeats(indexer: Indexer, subject: Subject, setting: Setting, index: Index, times: int) -> Repeated:
    """Recompute query vectors `times` times, under changing threads, from changed memory, and by torch in the
    compiled layers' place."""
    assert index.transform is not None  # the attributor's own code made it
    transform = index.transform
    owner, owners = indexer.world.owner, len(indexer.world.contributors)
    stated = receipt_shares(index, owner, owners)
    factors = indexer.factors(subject.states[setting.epoch])
    questions = indexer.world.questions
    passed, worst, lowest = 0, 0.0, 1.0
    by_torch = AdaptedModel(indexer.world.base, compiled=False)
    for place, otherwise in _places(len(questions), times):
        model = by_torch if otherwise else indexer.model
        again = compute_vectors(model, factors, transform.answer, [questions[place]])[0]
        new = Index(index.rows, again[None], 0.0, 0.0, 0, index.row_bytes)
        gap = float(total_variation(receipt_shares(new, owner, owners), stated[place : place + 1])[0])
        passed += gap <= TV_TOLERANCE
        worst, lowest = max(worst, gap), min(lowest, _cosine(index.questions[place], again))
    return Repeated(passed, times, worst, lowest)


def _places(questions: int, times: int) -> Iterator[tuple[int, bool]]:
    """Every question in turn, and whether torch is to compute it; one round in ROUNDS has more threads, one
    torch."""
    before = torch.get_num_threads()
    try:
        for number in range(times):
            turn = number // questions % ROUNDS
            torch.set_num_threads(max(THREADS) if turn == ROUNDS - 1 else min(THREADS))
            yield number % questions, turn == ROUNDS - 2
    finally:
        torch.set_num_threads(before)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    wide: Sequence[np.ndarray] = (a.astype(np.float64), b.astype(np.float64))
    lengths = float(np.linalg.norm(wide[0]) * np.linalg.norm(wide[1]))
    return float(wide[0] @ wide[1]) / lengths if lengths else float(not (a.any() or b.any()))


if __name__ == "__main__":
    print(json.dumps({"digest": weights_digest(Path(sys.argv[1]))}))
