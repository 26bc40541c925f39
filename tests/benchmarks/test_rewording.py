"""Whose rows the rule of copies drops: the measurement itself, and the tables that the page shows."""

from __future__ import annotations

import json
import random
from pathlib import Path

from benchmarks.influence.rewording import changes, divisions, dropped_of, reworded, shelves_of, tables

ROOT = Path(__file__).parent.parent.parent


def test_the_page_shows_the_committed_result() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "rewording.json").read_text())
    for table in tables(result):
        assert table in (ROOT / "docs" / "attribution.md").read_text()


def test_of_each_row_the_told_part_is_replaced() -> None:
    text, rng = " ".join(f"word{number}" for number in range(10)), random.Random(1)
    for name, change in changes(["corpus"]).items():
        for percent in (0, 40, 100):
            changed = reworded(text, change, percent, rng).split()
            kept = sum(new == old for new, old in zip(changed, text.split(), strict=True))
            assert kept == 10 - percent // 10, name


def test_divisions_keep_every_row_once() -> None:
    rows = [f"row {number}" for number in range(40)]
    for _, shards in divisions(rows, random.Random(1)):
        assert sorted(row for _, own in shards for row in own) == sorted(rows)


def test_a_cheats_rows_are_found_and_other_rows_are_not() -> None:
    honest, rng = shelves_of(101), random.Random(1)
    change = changes(["thus"])["foreign"]
    victim = honest[0][1]
    assert dropped_of(honest, [reworded(row, change, 40, rng) for row in victim]) == len(victim)
    assert dropped_of(honest, [f"nothing of it {number}" for number in range(40)]) == 0
