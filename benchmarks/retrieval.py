"""`python -m benchmarks.retrieval`: whether finding rows by meaning, too, is worth its cost, on real rows.

The packaged Datanets' held-out questions ask for a row's code in words that no row has. A row is right where
it has the question's answer. Nothing was chosen on these: the model and the fusion are as nodes have them.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from commonlore.peer.datanets.corpora import CORPORA, Corpus, corpus
from commonlore.protocol.ids import cid_of
from commonlore.worker.retrieval.embedding import Embedder, MiniLm
from commonlore.worker.retrieval.index import Found, IndexedRow, build_index, embed_rows, search

SHOWN = 4
"""Rows that `--retrieve` gives unless told otherwise."""
DEEP = 64


def measure(source: Corpus, embedder: Embedder, folder: Path) -> dict[str, object]:
    """One Datanet by words, by meaning and by both."""
    rows = [
        IndexedRow(bytes(32), bytes(20), cid_of(name.encode()), name, row.question, row.answer)
        for name, own in source.contributors.items()
        for row in own
    ]
    path = folder / f"{source.name}.sqlite3"
    build_index(path, rows)
    began = time.process_time()
    embed_rows(path, embedder, len(rows))
    embedding_s = (time.process_time() - began) / len(rows)
    ranks: dict[str, list[int | None]] = {"words": [], "words and meaning": []}
    spent = dict.fromkeys(ranks, 0.0)
    for asked in source.heldout:
        for name, chosen in (("words", None), ("words and meaning", embedder)):
            began = time.process_time()
            found = search(path, asked.question, DEEP, chosen)
            spent[name] += time.process_time() - began
            ranks[name].append(_rank(found, asked.answer))
    return {
        "rows": len(rows),
        "questions": len(source.heldout),
        "cpu_seconds_a_row": round(embedding_s, 4),
        "bytes_a_row": _vector_bytes(path),
        "by": {
            name: figures(own) | {"cpu_seconds_a_query": round(spent[name] / len(own), 4)}
            for name, own in ranks.items()
        },
    }


def figures(ranks: Sequence[int | None]) -> dict[str, float]:
    """How many first rows are right, how many of the first four have a right one, and the mean reciprocal
    rank."""
    count = len(ranks)
    return {
        "recall_at_1": round(sum(rank == 1 for rank in ranks) / count, 3),
        "recall_at_4": round(sum(rank is not None and rank <= SHOWN for rank in ranks) / count, 3),
        "mrr": round(sum(1 / rank for rank in ranks if rank is not None) / count, 3),
    }


def table(result: dict[str, dict[str, object]]) -> str:
    """As docs/performance.md has it."""
    lines = ["| Datanet | found by | recall at 1 | at 4 | MRR | CPU-s a query |", "|---|---|---|---|---|---|"]
    for name, measured in result.items():
        ways = measured["by"]
        assert isinstance(ways, dict)
        for way, own in ways.items():
            cells = (own["recall_at_1"], own["recall_at_4"], own["mrr"], own["cpu_seconds_a_query"])
            lines.append(f"| {name} | {way} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return "\n".join(lines)


def _rank(found: Sequence[Found], answer: str) -> int | None:
    return next((rank for rank, each in enumerate(found, 1) if each.row.answer == answer), None)


def _vector_bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as sql:
        size: int = sql.execute("SELECT max(length(vector)) FROM rows").fetchone()[0]
        return size


def main() -> None:
    """Measure all packaged Datanets."""
    parser = argparse.ArgumentParser(prog="benchmarks.retrieval", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    embedder = MiniLm()
    embedder.embed(["the files are read at the first use"])
    with tempfile.TemporaryDirectory() as folder:
        result = {name: measure(corpus(name), embedder, Path(folder)) for name in CORPORA}
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if options.json else table(result))


if __name__ == "__main__":
    main()
