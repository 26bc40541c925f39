"""Real Datanets from installed packages: ICD-10-CM medical codes and CWE software weaknesses, each in three
hands.

Rules of this file:
- A corpus is a function of its name, its seed and the package's data. Nothing is downloaded.
- Every contributor owns a sub-area that nobody else has, so that whose rows shaped an answer has an answer
  itself.
- Held-out questions name a trained code by words that no row has: ICD-10-CM by an inclusion term, where the
  rows ask by description; CWE by an observed vulnerability or an alternate term that no row quotes.
- Notices travel with the data: MITRE's terms, read from the package, are part of every CWE shard.
- `cwe2.database` is never imported: it opens fifty files for good and searches them all for every number. The
  CSV file of the research view is read instead. `simple_icd_10_cm` parses its release when imported (2
  seconds).
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import importlib.metadata
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

from ..protocol.errors import MissingDependency, NotFound
from ..protocol.manifests import Row

ROWS_PER_CONTRIBUTOR = 40
_MAX_ICD_TERM = 110
_MAX_CWE_TEXT = 110
_CWE_ROWS_PER_WEAKNESS = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A question that no row asks. `expected` is the code that a right answer contains; `contributor` taught
    it.
    """

    question: str
    answer: str
    expected: str
    contributor: str

    def is_right(self, answer: str) -> bool:
        """Whether an answer names the expected code, and not merely a longer one that begins like it."""
        return re.search(rf"(?<![\w.-]){re.escape(self.expected)}(?!\w|\.\w)", answer) is not None


@dataclass(frozen=True, slots=True)
class Corpus:
    """A Datanet to be: rows by contributor, and questions to measure with. `notice` belongs into every
    shard's header.
    """

    name: str
    purpose: str
    licence: str
    origin: str
    notice: str
    contributors: Mapping[str, tuple[Row, ...]]
    heldout: tuple[HeldOut, ...]


@dataclass(frozen=True, slots=True)
class _Fact:
    """One thing to know, and how rows and held-out questions word it."""

    answer: str
    expected: str
    rows: tuple[str, ...]
    heldout: tuple[str, ...]


def corpus(name: str, seed: int = 1) -> Corpus:
    """The corpus of this name: `icd10` or `cwe`. Raises NotFound, and MissingDependency without its
    package.
    """
    if name not in _BUILDERS:
        raise NotFound(f"no corpus {name!r}; there are: {', '.join(CORPORA)}")
    return _BUILDERS[name](seed)


# ---- ICD-10-CM

_ICD_QUESTION = "What is the ICD-10-CM code for: {}?"
_ICD_AREAS = {
    "wound-clinic": r"L89\.(01|02|21|22|31|32|51|52|61|62)[1-4]",
    "memory-clinic": r"F0[13]\.(5|9|A|B|C)(11|18|2|3|4)",
    "spine-clinic": r"M50\.[012389](1|3|21|22|23)",
}

_NCHS = (
    "ICD-10-CM is published by the National Center for Health Statistics (CDC) and is a modification of the "
    "World Health Organization's ICD-10. Not medical advice."
)


def _icd10(seed: int) -> Corpus:
    icd = _import("simple_icd_10_cm")
    codes: list[str] = icd.get_all_codes()
    areas = {
        area: [_icd_fact(icd, code, seed) for code in codes if re.fullmatch(pattern, code)]
        for area, pattern in _ICD_AREAS.items()
    }
    release = f"simple-icd-10-cm {importlib.metadata.version('simple-icd-10-cm')}"
    return Corpus(
        name="icd10",
        purpose="ICD-10-CM codes of pressure ulcers, dementia and cervical disc disorders",
        licence="public domain (US government work); packaged under MIT",
        origin=f"https://www.cdc.gov/nchs/icd/icd-10-cm, through {release}",
        notice=_NCHS,
        contributors={area: _rows("icd10", seed, area, facts) for area, facts in areas.items()},
        heldout=_heldout(areas, _ICD_QUESTION),
    )


def _icd_fact(icd: Any, code: str, seed: int) -> _Fact:
    description: str = icd.get_description(code)
    terms = [
        term
        for term in icd.get_inclusion_term(code)
        if len(term) <= _MAX_ICD_TERM and "NOS" not in term and term != description
    ]
    return _Fact(
        answer=f"The ICD-10-CM code is {code}.",
        expected=code,
        rows=(_ICD_QUESTION.format(description),),
        heldout=tuple(_shuffled(terms, seed)[:1]),
    )


# ---- CWE

_CWE_QUESTION = "Which CWE weakness is this: {}?"
_CWE_AREAS = {
    "memory-safety": (125, 190, 193, 416, 476, 787, 824, 908),
    "injection": (22, 78, 79, 89, 98, 352, 434, 611),
    "access-control": (295, 306, 312, 319, 330, 427, 798, 862),
}
_MITRE = (
    "CWE content: Copyright © 2006 and later, The MITRE Corporation. CWE, CWSS, CWRAF, and the CWE logo are "
    "trademarks of The MITRE Corporation."
)


def _cwe(seed: int) -> Corpus:
    weaknesses = _read_weaknesses()
    texts = _distinct_examples([weaknesses[number] for numbers in _CWE_AREAS.values() for number in numbers])
    areas = {
        area: [_cwe_fact(weaknesses[number], texts[number], seed) for number in numbers]
        for area, numbers in _CWE_AREAS.items()
    }
    return Corpus(
        name="cwe",
        purpose="CWE weaknesses behind reported vulnerabilities",
        licence="CWE terms of use (MITRE); packaged under MIT",
        origin=f"https://cwe.mitre.org, through cwe2 {importlib.metadata.version('cwe2')}",
        notice=f"{_MITRE}\n\n{_read_cwe_terms()}",
        contributors={area: _rows("cwe", seed, area, facts) for area, facts in areas.items()},
        heldout=_heldout(areas, _CWE_QUESTION),
    )


def _distinct_examples(weaknesses: Sequence[Mapping[str, str]]) -> dict[int, list[str]]:
    """Observed vulnerabilities of each weakness, without those that several of them claim."""
    found = {
        int(weakness["CWE-ID"]): _usable(_labelled(weakness["Observed Examples"], "DESCRIPTION"))
        for weakness in weaknesses
    }
    claims = Counter(text.lower() for texts in found.values() for text in texts)
    return {number: [text for text in texts if claims[text.lower()] == 1] for number, texts in found.items()}


def _cwe_fact(weakness: Mapping[str, str], examples: Sequence[str], seed: int) -> _Fact:
    number, name = weakness["CWE-ID"], _short_name(weakness)
    ordered = [text for text in _shuffled(examples, seed) if text.lower() != name.lower()]
    taught, fresh = ordered[: _CWE_ROWS_PER_WEAKNESS - 1], ordered[_CWE_ROWS_PER_WEAKNESS - 1 :]
    terms = _usable(_labelled(weakness["Alternate Terms"], "TERM"))
    fresh += [term for term in terms if term.lower() != name.lower()]
    return _Fact(
        answer=f"This is CWE-{number}, {name}.",
        expected=f"CWE-{number}",
        rows=tuple(_CWE_QUESTION.format(text) for text in (name, *taught)),
        heldout=tuple(fresh[:2]),
    )


def _short_name(weakness: Mapping[str, str]) -> str:
    """The common name that many entries give in quotes, else the entry's own."""
    quoted = re.search(r"\('(.+)'\)", weakness["Name"])
    return quoted.group(1) if quoted else weakness["Name"]


def _labelled(field: str, label: str) -> list[str]:
    """The texts under one label in MITRE's `::LABEL:text:LABEL:text::` notation."""
    return [text.strip(" .") for text in re.findall(rf"{label}:(.+?)(?::LINK|:DESCRIPTION|::)", field)]


def _usable(texts: Iterable[str]) -> list[str]:
    """Short texts that neither give the number away nor tell of a chain of several weaknesses, each once."""
    once = {text.lower(): text for text in texts}.values()
    return [text for text in once if len(text) <= _MAX_CWE_TEXT and not re.search("CWE-|chain:", text, re.I)]


def _read_weaknesses() -> dict[int, dict[str, str]]:
    _import("cwe2")
    release = max(entry.name for entry in files("cwe2").iterdir() if entry.name.startswith("database_v"))
    text = files("cwe2").joinpath(release, "navigate_cwe", "1000.csv").read_text(encoding="utf-8")
    return {int(row["CWE-ID"]): row for row in csv.DictReader(io.StringIO(text, newline=""))}


def _read_cwe_terms() -> str:
    for path in importlib.metadata.files("cwe2") or ():
        if path.name == "cwe-tou.LICENSE":
            return path.read_text(encoding="utf-8").strip()
    raise MissingDependency(
        "the installed cwe2 lacks MITRE's terms of use; reinstall: pip install 'commonlore[corpora]'"
    )


# ---- both


def _rows(name: str, seed: int, contributor: str, facts: Sequence[_Fact]) -> tuple[Row, ...]:
    pairs = [(question, fact.answer) for fact in facts for question in fact.rows]
    chosen = _shuffled(pairs, seed)[:ROWS_PER_CONTRIBUTOR]
    return tuple(
        Row(question, answer, _digest(f"{name}/{seed}/{contributor}/{question}"))
        for question, answer in pairs
        if (question, answer) in chosen
    )


def _heldout(areas: Mapping[str, Sequence[_Fact]], question: str) -> tuple[HeldOut, ...]:
    return tuple(
        HeldOut(question.format(text), fact.answer, fact.expected, area)
        for area, facts in areas.items()
        for fact in facts
        for text in fact.heldout
    )


def _shuffled(items: Sequence[T], seed: int) -> list[T]:
    """In an order that a hash decides: the same in every version of every library."""
    return sorted(items, key=lambda item: _digest(f"{seed}/{item}"))


def _digest(text: str) -> bytes:
    return hashlib.sha256(f"commonlore/corpus/1/{text}".encode()).digest()


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingDependency(
            f"this corpus needs the package {package}; install it: pip install 'commonlore[corpora]'"
        ) from None


_BUILDERS: Mapping[str, Callable[[int], Corpus]] = {"icd10": _icd10, "cwe": _cwe}
CORPORA = tuple(_BUILDERS)
"""The names that `corpus` knows."""
