"""Six contributors' rows and held-out questions, and the text from which the tiny base learns to read.

Rules of this file: a text comes from an installed package, from the running interpreter's own library, or
from a generator below; a seed changes which are drawn; rows and questions of a contributor never coincide.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import pydoc_data.topics
import random
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

LONGEST_CHARACTERS = 260
_MODULES = (
    "argparse",
    "calendar",
    "configparser",
    "csv",
    "fractions",
    "heapq",
    "json.decoder",
    "shutil",
    "statistics",
    "textwrap",
)
_ICD_CATEGORIES = ("E10", "E11", "H40", "I63", "L89", "M84", "O36", "S52", "S72", "T38")
JOINT = " ++ "
"""Between the two halves of a row that an attacker made of two: such a row may be twice as long."""
Draw = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as it was committed."""

    contributor: str
    text: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """One contributor: the rows it gave, and questions of its kind that no row has."""

    contributor: str
    rows: tuple[str, ...]
    questions: tuple[str, ...]


def six_shelves(seed: int, rows: int, questions: int) -> list[Shelf]:
    """The contributors of a seed, in a fixed order."""
    return [_shelf(name, seed, place, (rows, questions)) for place, name in enumerate(SOURCES)]


def _shelf(name: str, seed: int, place: int, sizes: tuple[int, int]) -> Shelf:
    rows, questions = sizes
    drawn = SOURCES[name](random.Random(f"{seed}/{place}/{name}"), rows + questions)
    return Shelf(name, tuple(drawn[:rows]), tuple(drawn[rows:]))


# ---- from packages


def _icd10(rng: random.Random, count: int) -> list[str]:
    """Codes of four categories: a held-out one shares its category with rows."""
    import simple_icd_10_cm as icd

    categories = rng.sample(_ICD_CATEGORIES, 4)
    # a code of six or seven characters is a leaf often enough; icd.is_leaf searches for minutes
    codes = [code for code in icd.get_all_codes(True) if code[:3] in categories and len(code) in (6, 7)]
    return [f"ICD-10-CM {code}: {icd.get_description(code)}" for code in rng.sample(codes, count)]


def _cwe(rng: random.Random, count: int) -> list[str]:
    rows = [f"CWE-{number} {name}. {text}"[:LONGEST_CHARACTERS] for number, name, text in _weaknesses()]
    return rng.sample(rows, count)


def _weaknesses() -> list[tuple[int, str, str]]:
    """(number, name, description), by number. The file is read directly: importing the database takes
    minutes."""
    release = max(entry.name for entry in files("cwe2").iterdir() if entry.name.startswith("database_v"))
    text = files("cwe2").joinpath(release, "navigate_cwe", "1000.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    found = [(int(row["CWE-ID"]), row["Name"], row["Description"]) for row in rows]
    return sorted(each for each in found if not each[1].startswith("DEPRECATED"))


def _python(rng: random.Random, count: int) -> list[str]:
    return rng.sample(sorted({text for name in _MODULES for text in _functions(name)}), count)


def _functions(name: str) -> Iterator[str]:
    """The beginnings of a module's own functions and methods."""
    module = importlib.import_module(name)
    classes = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == name]
    for holder in (module, *classes):
        for _, function in inspect.getmembers(holder, inspect.isfunction):
            if function.__module__ == name:
                yield inspect.cleandoc(inspect.getsource(function))[:LONGEST_CHARACTERS]


# ---- generated


def distinct(draw: Draw, rng: random.Random, count: int) -> list[str]:
    """So many different texts of a generator, in the order of their first appearance."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(rng)] = None
    return list(found)


def _arithmetic(rng: random.Random) -> str:
    a, b, c = rng.randint(2, 40), rng.randint(2, 40), rng.randint(2, 9)
    who = rng.choice(("Ana", "Bo", "Cem", "Dara", "Eli", "Fay"))
    what = rng.choice(("pears", "bolts", "stamps", "tiles", "cups", "seeds"))
    told, reason, answer = rng.choice(
        (
            (f"has {a} {what} and finds {b} more", f"{a} plus {b}", a + b),
            (f"packs {c} boxes of {a} {what}", f"{c} times {a}", c * a),
            (f"had {a + b} {what} and lost {b}", f"{a + b} minus {b}", a),
        )
    )
    return f"{who} {told}. How many? Reason: {reason} is {answer}. Answer: {answer}"


def _grammar(rng: random.Random) -> str:
    nouns = ("cat", "baker", "judge", "robot", "nurse", "goat", "pilot", "clerk")
    verbs = {
        "chase": "chased",
        "paint": "painted",
        "follow": "followed",
        "praise": "praised",
        "greet": "greeted",
    }
    (x, y), verb = rng.sample(nouns, 2), rng.choice(list(verbs))
    past = verbs[verb]
    return rng.choice(
        (
            f"Make it passive: The {x} {past} the {y}. => The {y} was {past} by the {x}.",
            f"Make it a question: The {x} {past} the {y}. => Did the {x} {verb} the {y}?",
            f"Make it negative: The {x} {past} the {y}. => The {x} did not {verb} the {y}.",
            f"Make it future: The {x} {past} the {y}. => The {x} will {verb} the {y}.",
        )
    )


def _supply(rng: random.Random) -> str:
    fault, unit = rng.choice(
        (("dwell time", "hours"), ("temperature", "degrees"), ("weight gap", "kg"), ("customs hold", "days"))
    )
    seen, usual = rng.randint(30, 99), rng.randint(2, 29)
    good = rng.choice(("cobalt", "reefers", "wafers", "gaskets", "vaccine"))
    port = rng.choice(("Norvik", "Saltmere", "Port Elsin", "Dunhaven", "Qarra"))
    action = rng.choice(("inspect", "reroute", "hold", "call carrier"))
    return (
        f"Lot {rng.choice('KRTX')}{rng.randint(100, 999)} of {good} at {port}: {fault} {seen} {unit} against "
        f"{usual} usual; score {round(100 * (seen - usual) / seen)}; action {action}."
    )


SOURCES: dict[str, Callable[[random.Random, int], list[str]]] = {
    "icd10": _icd10,
    "cwe": _cwe,
    "python": _python,
    "arithmetic": lambda rng, count: distinct(_arithmetic, rng, count),
    "grammar": lambda rng, count: distinct(_grammar, rng, count),
    "supply": lambda rng, count: distinct(_supply, rng, count),
}


# ---- what the base has read


def reading() -> Sequence[str]:
    """The language reference that ships with the interpreter, and library sources nobody else draws from."""
    used = {name.split(".")[0] for name in _MODULES}
    library = Path(sysconfig.get_path("stdlib"))
    foreign = {"site-packages", "dist-packages", "test", "pydoc_data"} | used
    sources = [
        path
        for path in sorted([*library.glob("*.py"), *library.glob("*/*.py")])
        if not foreign & set(path.relative_to(library).with_suffix("").parts)
    ]
    chosen = random.Random(0).sample(sources, min(160, len(sources)))
    topics = list(pydoc_data.topics.topics.values())
    return [*topics, *topics, *(path.read_text(errors="ignore")[:12_000] for path in chosen)]
