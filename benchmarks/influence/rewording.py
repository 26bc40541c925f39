"""`python -m benchmarks.influence.rewording --out FILE`: whose rows the rule of copies drops, on texts.

Rules of this file:
- Honest rows come as their contributors gave them, and divided at random: one shelf, one family or one corpus
  among two, five or ten names, or to a small name before or after a large one.
- Beside each: what is dropped where no shard is ever held to be reworded, which is the rule as it was.
- A cheat comes last and rewords one contributor's rows, each contributor's once. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from commonlore.peer.datanets.corpora import CORPORA, corpus
from commonlore.protocol.content import rewording
from commonlore.protocol.content.copies import Representatives

from .families import FAMILIES, draw_family
from .texts import SOURCES, six_shelves

CHOSEN_ON = (101, 102, "icd10")
SEEDS = (101, 102, 201, 202, 203, 301)
STRENGTHS = (20, 30, 40, 50, 60)
_ROWS, _QUESTIONS, _OF_A_KIND = 40, 6, 20
_FOREIGN = ("item", "other", "seven", "thus", "Zeta")
_LATIN = "aceopxyiABCEHKMOPTX"
_CYRILLIC = (
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0410"
    "\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425"
)
Shards = list[tuple[bytes, list[str]]]
Change = Callable[[str, random.Random], str]


# ---- honest rows


def shelves_of(seed: int) -> Shards:
    """The six contributors of a world."""
    return [(shelf.contributor.encode(), [*shelf.rows]) for shelf in six_shelves(seed, _ROWS, _QUESTIONS)]


def corpus_of(name: str) -> Shards:
    """The contributors of a real Datanet."""
    shards = corpus(name).contributors.items()
    return [(area.encode(), [f"{row.question}\n{row.answer}" for row in rows]) for area, rows in shards]


def family_of(name: str, seed: int) -> Shards:
    """The kinds of a DataInf family, each somebody's."""
    rows, _ = draw_family(name, seed, _OF_A_KIND, 1)
    kinds = dict.fromkeys(row.kind for row in rows)
    return [(kind.encode(), [row.text for row in rows if row.kind == kind]) for kind in kinds]


def divisions(rows: Sequence[str], rng: random.Random) -> Iterator[tuple[str, Shards]]:
    """Rows of one hand, at random among several names."""
    rows = rng.sample(rows, len(rows))
    for names in (2, 5, 10):
        yield f"{names} names", [(b"name %d" % name, [*rows[name::names]]) for name in range(names)]
    small = max(1, len(rows) // 5)
    yield "small last", [(b"large", rows[small:]), (b"small", rows[:small])]
    yield "small first", [(b"small", rows[:small]), (b"large", rows[small:])]


def honest_worlds() -> Iterator[tuple[str, str, Shards]]:
    """(world, how it is divided, shards)."""
    for seed in SEEDS:
        rng = random.Random(f"rewording/{seed}")
        shelves = shelves_of(seed)
        yield f"six {seed}", "as given", shelves
        for place, (_, rows) in enumerate(shelves):
            others = shelves[:place] + shelves[place + 1 :]
            yield from ((f"six {seed}", how, others + parts) for how, parts in divisions(rows, rng))
        for family in FAMILIES:
            kinds = family_of(family, seed)
            yield f"DataInf {family} {seed}", "as given", kinds
            yield from _divided(f"DataInf {family} {seed}", kinds, [rng])
    draws = [random.Random(seed) for seed in SEEDS]
    for name in CORPORA:
        yield f"Datanet {name}", "as given", corpus_of(name)
        yield from _divided(f"Datanet {name}", corpus_of(name), draws)
    for name, rows in wide().items():
        yield from _divided(f"many {name}", [(b"all", rows)], draws)


def wide() -> Mapping[str, list[str]]:
    """Many rows of each source in six worlds' manner, one hand's."""
    sizes = {"icd10": 400, "cwe": 600, "python": 150, "arithmetic": 400, "grammar": 400, "supply": 400}
    return {name: SOURCES[name](random.Random(f"wide/{name}"), size) for name, size in sizes.items()}


def _divided(world: str, shards: Shards, draws: Sequence[random.Random]) -> Iterator[tuple[str, str, Shards]]:
    together = [row for _, rows in shards for row in rows]
    for rng in draws:
        yield from ((world, how, parts) for how, parts in divisions(together, rng))


# ---- reworded rows


def changes(words: Sequence[str]) -> dict[str, Change]:
    """How a word is replaced: by five foreign ones, by any of the corpus, by letters that look alike."""
    alike = str.maketrans(_LATIN, _CYRILLIC)
    return {
        "foreign": lambda word, rng: rng.choice(_FOREIGN),
        "corpus": lambda word, rng: rng.choice(words),
        "lookalike": lambda word, rng: word.translate(alike),
    }


def reworded(text: str, change: Change, percent: int, rng: random.Random) -> str:
    """A text with so many of its words replaced."""
    words = text.split()
    for place in rng.sample(range(len(words)), round(percent * len(words) / 100)):
        words[place] = change(words[place], rng)
    return " ".join(words)


def dropped_of(honest: Shards, shard: Sequence[str]) -> int:
    """How many rows of a cheat's shard are dropped."""
    return len(_pool(honest)[0].admit(b"cheat", shard))


def _pool(shards: Shards) -> tuple[Representatives, Counter[str]]:
    pool, kinds = Representatives(), Counter[str]()
    for owner, rows in shards:
        kinds.update(verdict.kind.value for verdict in pool.admit(owner, rows))
    return pool, kinds


# ---- the measurement


def measure_honest() -> dict[str, Any]:
    """By world and division: rows, those dropped, and those that were dropped before."""
    found: dict[str, Any] = {}
    for world, how, shards in honest_worlds():
        cell = found.setdefault(world, {}).setdefault(how, Counter())
        cell["worlds"] += 1
        cell["rows"] += sum(len(rows) for _, rows in shards)
        cell["dropped"] += _pool(shards)[1].total()
        with _without():
            cell["dropped before"] += _pool(shards)[1].total()
    return found


def _without() -> Any:
    """The rule without this part of it."""
    return patch.object(rewording, "FEWEST_PARTNERS", 1 << 30)


def measure_found(world: str, honest: Shards) -> dict[str, Any]:
    """By way of rewording, strength and victim: what part of the cheat's rows is dropped."""
    words = [word for _, rows in honest for row in rows for word in row.split()]
    return {
        way: {
            str(percent): {
                victim.decode(): _part_found(honest, rows, change, percent, f"{world}/{way}")
                for victim, rows in honest
            }
            for percent in STRENGTHS
        }
        for way, change in changes(words).items()
    }


def _part_found(honest: Shards, rows: Sequence[str], change: Change, percent: int, seed: str) -> float:
    rng = random.Random(f"{seed}/{percent}")
    shard = [reworded(row, change, percent, rng) for row in rows]
    return round(dropped_of(honest, shard) / len(rows), 3)


def measure_seconds(rows: int, shard: int = 1000) -> float:
    """Processor seconds to judge so many generated rows, shards of three kinds in turn."""
    kinds = ("arithmetic", "grammar", "supply")
    shards = [_numbered(kinds[place % 3], place, shard) for place in range(rows // shard)]
    started, pool = time.process_time(), Representatives()
    for place, texts in enumerate(shards):
        pool.admit(b"%d" % place, texts)
    return round(time.process_time() - started, 1)


def _numbered(kind: str, place: int, count: int) -> list[str]:
    rng = random.Random(f"{kind}/{place}")
    rows = SOURCES[kind](rng, 100)
    return [f"Note {place}-{number}: {rng.choice(rows)}" for number in range(count)]


# ---- as docs/attribution.md has it

_WAYS = {"foreign": "five foreign ones", "corpus": "others of the corpus", "lookalike": "Cyrillic letters"}


def tables(result: Mapping[str, Any]) -> tuple[str, str]:
    """The share of cheats' rows that is found, and the honest rows that are dropped."""
    return _found_table(result["found"]), _honest_table(result["honest"])


def _found_table(found: Mapping[str, Any]) -> str:
    lines = [f"| rows of | words replaced by | {' | '.join(f'{part} %' for part in STRENGTHS)} |"]
    lines.append("| --- | --- |" + " --- |" * len(STRENGTHS))
    for group, worlds in _groups(found).items():
        for way, name in _WAYS.items():
            cells = [_found_cell([each[way][str(percent)] for each in worlds]) for percent in STRENGTHS]
            lines.append(f"| {group} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _groups(found: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Worlds of one kind together, apart from those that thresholds were chosen on."""
    groups: dict[str, list[Any]] = {}
    for world, own in found.items():
        kind, name = world.split()
        if kind == "six":
            name = "six domains, seeds 101 and 102" if int(name) in CHOSEN_ON else "six domains, other seeds"
        groups.setdefault(name if kind == "six" else world, []).append(own)
    return groups


def _found_cell(worlds: Sequence[Mapping[str, float]]) -> str:
    """The mean over worlds and victims in per cent, and who is found least where not all are."""
    by_victim = {name: sum(each[name] for each in worlds) / len(worlds) for name in worlds[0]}
    mean = 100 * sum(by_victim.values()) / len(by_victim)
    least = min(by_victim, key=lambda name: by_victim[name])
    return f"{mean:.0f}" if by_victim[least] == 1 else f"{mean:.0f} ({least} {100 * by_victim[least]:.0f})"


def _honest_table(honest: Mapping[str, Any]) -> str:
    lines = [
        "| honest rows | worlds | judged | dropped before | dropped now |",
        "| --- | --- | --- | --- | --- |",
    ]
    sums: dict[tuple[str, str], Counter[str]] = {}
    for world, cells in honest.items():
        kind = " ".join(word for word in world.split() if not word.isdigit())
        for how, cell in cells.items():
            given = "as given" if how == "as given" else "divided"
            sums.setdefault((kind, given), Counter()).update(cell)
    for (kind, given), cell in sums.items():
        keys = ("worlds", "rows", "dropped before", "dropped")
        lines.append(f"| {kind}, {given} | {' | '.join(f'{cell[key]:,}' for key in keys)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=0, help="also time the judging of so many rows")
    told = parser.parse_args()
    worlds = {f"six {seed}": shelves_of(seed) for seed in SEEDS}
    worlds |= {f"Datanet {name}": corpus_of(name) for name in CORPORA}
    result: dict[str, Any] = {
        "chosen_on": CHOSEN_ON,
        "honest": measure_honest(),
        "found": {world: measure_found(world, honest) for world, honest in worlds.items()},
    }
    if told.rows:
        result["seconds"] = {str(told.rows): measure_seconds(told.rows)}
    told.out.write_text(json.dumps(result, indent=1) + "\n")
    print("\n\n".join(tables(result)))


if __name__ == "__main__":
    main()
