"""`python -m benchmarks.influence.tables [FILE]`: an attribution result as the Markdown tables that
docs/attribution.md has (tests/test_docs.py holds it to them).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
RESULT = ROOT / "benchmarks" / "results" / "attribution.json"
NOTHING = "-"
ATTACKED = (
    *("ours", "ours, no rule", "datainf", "tracincp", "dot", "dattri-logra", "bergson", "kronfluence-ekfac"),
    *("bm25s", "embeddings"),
)
Result = Mapping[str, Any]


def tables(result: Result) -> list[str]:
    """All of them, of what was measured."""
    return [table(result) for needed, table in TABLES.items() if needed in result]


def faithful(result: Result) -> str:
    """How well methods foretell retraining, on the six contributors."""
    return _methods({"ours": result["ours"], **result["peers"]})


def limits(result: Result) -> str:
    """What each limit of ours costs."""
    return _methods({"ours": result["ours"], **result["limits"]})


def _times(each: Result) -> list[str]:
    """What was computed many examples to a pass was not timed."""
    timed = each["index_seconds"] > 0
    return [_seconds(timed * each[figure]) for figure in ("seconds_per_query", "index_seconds")]


def _seconds(seconds: float) -> str:
    """Zero is what was not timed."""
    return f"{seconds:.3g}" if seconds else NOTHING


def forms(result: Result) -> str:
    """Other ways to spend a row's bytes."""
    return _methods(result["forms"])


def _methods(methods: Mapping[str, Result]) -> str:
    lines = [
        [
            f"`{name}`",
            _with_error(each, "lds"),
            f"{each['shapley_pearson']:.3f}",
            _with_error(each, "pay_error"),
            f"{each['bytes_per_example']:,.0f}",
            *_times(each),
        ]
        for name, each in sorted(methods.items(), key=lambda item: -item[1]["lds"])
    ]
    head = ["method", "LDS", "Pearson", "pay error", "bytes an example", "CPU-s a query", "CPU-s to index"]
    return _table(head, lines)


def differences(result: Result) -> str:
    """Ours less the others, paired."""
    lines = [
        [f"`{name}`", _with_error(gap, "lds", "+.3f"), _with_error(gap, "pay_error", "+.3f")]
        for name, gap in result["ours_minus"].items()
    ]
    return _table(["ours less", "LDS", "pay error"], lines)


def order(result: Result) -> str:
    """What another order of batches does."""
    figures = {
        "pay_change": "a contributor's pay, mean",
        "largest_pay_change": "largest",
        "answer_change": "one answer's pay",
        "pay_error": "pay error",
    }
    lines = [
        [way, *(f"{100 * each[figure]:.1f} %" for figure in figures)] for way, each in result["order"].items()
    ]
    return _table(["from", *figures.values()], lines)


def attacks(result: Result) -> str:
    """Largest change of an honest contributor's pay / the attacker's part of all pay; the worst of all
    seeds.
    """
    names = [name for name in ATTACKED if any(name in methods for methods in result["attacks"].values())]
    lines = [
        [f"`{attack}`", *(_damage(methods.get(name)) for name in names)]
        for attack, methods in result["attacks"].items()
    ]
    return _table(["attack", *(f"`{name}`" for name in names)], lines)


def _damage(damage: Result | None) -> str:
    if damage is None:
        return NOTHING
    return f"{100 * damage['honest_change']:.1f} / {100 * damage['attacker_share']:.1f}"


def sorting(result: Result) -> str:
    """Over draws of the projection: what sorting brings whoever gains most, and does to others."""
    lines = [
        [seed, known, *(_part_of(found, figure) for figure in ("gain", "change"))]
        for seed, each in result["sorted"].items()
        for known, found in (("seen", each["seen"]), ("unseen", each["unseen"]))
    ]
    head = ["seed", "the draw is", "whoever gains most: mean of draws / largest"]
    return _table([*head, "another's pay: mean of draws / largest"], lines)


def _part_of(found: Result, figure: str) -> str:
    mean, error, largest = (100 * found[name] for name in (figure, f"{figure}_se", f"largest_{figure}"))
    return f"{mean:.1f} ± {error:.1f} % / {largest:.1f} %"


def families(result: Result) -> str:
    """AUC of rows of a question's kind / recall / AUC of flipped rows by influence / by margin."""
    found = result["auc_datainf"]
    names = dict.fromkeys(name for family in found.values() for name in family)
    lines = [[f"`{name}`", *(_family(family.get(name)) for family in found.values())] for name in names]
    return _table(["same kind / recall / flipped / by margin", *(f"`{family}`" for family in found)], lines)


def _family(said: Result | None) -> str:
    return NOTHING if said is None else _figures(said, ("same_kind", "recall", "flipped", "by_margin"))


def real_families(result: Result) -> str:
    """On the real base, of whole texts and of answers: AUC of a question's kind / recall / how often it comes
    first; AUC of flipped rows by influence / by margin.
    """
    kind = ("same_kind", "recall", "first")
    columns = {"whole": kind, "answers": kind, "wrong": ("flipped", "by_margin")}
    lines = [
        [f"`{family}`", f"`{name}`", *(_said_of(forms, form, name, columns[form]) for form in columns)]
        for family, forms in result["auc_datainf_real"].items()
        for name in dict.fromkeys(name for each in forms.values() for name in each["methods"])
    ]
    head = ["family", "method", "whole: same kind / recall / first", "answers: the same"]
    return _table([*head, "flipped / by margin"], lines)


def _said_of(forms: Result, form: str, method: str, figures: Sequence[str]) -> str:
    said = forms[form]["methods"].get(method) if form in forms else None
    return NOTHING if said is None else _figures(said, figures)


def _figures(said: Result, figures: Sequence[str]) -> str:
    return " / ".join(f"{said[figure]:.3f}" if figure in said else NOTHING for figure in figures)


def starter(result: Result) -> str:
    """The real base; errors are of one world's questions and subsets."""
    lines = [
        [
            f"`{name}`",
            f"{each['lds']:.2f} ± {each['lds_se_within']:.2f}",
            f"{each['shapley_pearson']:.3f}",
            f"{each['pay_error']:.3f}",
            f"{each['bytes_per_example']:,.0f}",
            _seconds(each["seconds_per_query"]),
        ]
        for name, each in sorted(result["starter"]["methods"].items(), key=lambda item: -item[1]["lds"])
    ]
    return _table(["method", "LDS", "Pearson", "pay error", "bytes an example", "CPU-s a query"], lines)


def measured(result: Result) -> str:
    """What `train` measures of its own adapters."""
    lines = [
        [
            f"`{each['datanet']}`",
            str(int(name.rpartition("-")[2]) + 1),
            _within(each, "lds"),
            _within(each, "null_adapter"),
            f"{each['null_indexes_to']:.2f}",
            "yes" if each["above_chance"] else "no",
            _seconds(each.get("seconds", 0.0)),
        ]
        for name, each in result["measured"].items()
    ]
    head = ["Datanet", "measurement", "LDS", "null adapter", "null indexes up to", "above chance", "CPU-s"]
    return _table(head, lines)


def _within(each: Result, figure: str) -> str:
    return f"{each[figure]:.2f} ± {each[f'{figure}_95']:.2f}"


def windows(result: Result) -> str:
    """Early checkpoints on development seeds: LDS / pay error."""
    seeds = result["windows"]
    lines = [[name, *figures] for name, figures in _by_world(seeds).items()]
    return _table(["checkpoint", *(f"seed {seed}" for seed in seeds)], lines)


def windows_reported(result: Result) -> str:
    """What was chosen, once, on the reported seeds; and paired, less what is used."""
    seeds, gaps = result["windows_reported"], result["windows_less_used"]
    lines = [
        [name, *figures, *(_with_error(gaps[name], figure, "+.3f") for figure in ("lds", "pay_error"))]
        for name, figures in _by_world(seeds).items()
    ]
    head = ["checkpoint", *(f"seed {seed}" for seed in seeds)]
    return _table([*head, "LDS less that in use", "pay error less that in use"], lines)


def windows_real(result: Result) -> str:
    """The same on the real base; errors are of one world's questions and subsets."""
    lines = [
        [
            f"`{world}`",
            name,
            _faithful_at(found),
            *(_with_error(each["less_used"][name], figure, "+.3f") for figure in ("lds", "pay_error")),
        ]
        for world, each in result["windows_real"].items()
        for name, found in each["windows"].items()
    ]
    head = ["Datanet", "checkpoint", "LDS / pay error"]
    return _table([*head, "LDS less that in use", "pay error less that in use"], lines)


def _by_world(worlds: Result) -> dict[str, list[str]]:
    names = dict.fromkeys(name for each in worlds.values() for name in each["windows"])
    return {name: [_faithful_at(each["windows"].get(name)) for each in worlds.values()] for name in names}


def _faithful_at(found: Result | None) -> str:
    return NOTHING if found is None else f"{found['lds']:.3f} / {found['pay_error']:.3f}"


def pools(result: Result) -> str:
    """What drawing more receipts costs and buys."""
    lines = [
        [
            f"{int(count):,}",
            f"{100 * each['cost_fraction']:,.1f} %",
            f"{each['pool_tv']:.3f}",
            f"{each['share_se']:.3f}",
            f"{each['pool_tv_of_epochs']:.3f}",
        ]
        for count, each in sorted(result["cost"]["by_drawn"].items(), key=lambda item: int(item[0]))
    ]
    head = ["drawn of 1,000", "cost of serving", "pool's pay error", "standard error of a share"]
    return _table([*head, f"pay error of {result['cost']['epochs']} pools"], lines)


def _with_error(each: Result, figure: str, form: str = ".3f") -> str:
    error = each[f"{figure}_se"]
    return f"{each[figure]:{form}}" + ("" if error is None else f" ± {error:.3f}")


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruled = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


TABLES: Mapping[str, Callable[[Result], str]] = {
    "ours": faithful,
    "ours_minus": differences,
    "limits": limits,
    "forms": forms,
    "order": order,
    "attacks": attacks,
    "sorted": sorting,
    "auc_datainf": families,
    "auc_datainf_real": real_families,
    "starter": starter,
    "measured": measured,
    "windows": windows,
    "windows_reported": windows_reported,
    "windows_real": windows_real,
    "cost": pools,
}


def main(arguments: Sequence[str]) -> int:
    """Print them."""
    path = Path(arguments[0]) if arguments else RESULT
    print("\n\n".join(tables(json.loads(path.read_text(encoding="utf-8")))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
