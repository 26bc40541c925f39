"""Real Datanets from installed packages: ICD-10-CM medical codes and CWE software weaknesses.

Rules of this file:
- A corpus is a function of its name, its seed and the package's data. Nothing is downloaded.
- Three contributors each own a sub-area that nobody else has: whose rows shaped an answer can be checked.
- A row asks for a code by its description or by other words for it: an inclusion term (ICD-10-CM), an
  observed vulnerability or alternate term (CWE). A held-out question uses such words that no row has.
- Notices travel with the data: MITRE's terms, read from the package, are part of every CWE shard.
- `cwe2.database` is never imported: it opens fifty files for good and searches them all for every number. The
  CSV file of the research view is read instead. `simple_icd_10_cm` parses its release when imported (2 s).
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import importlib.metadata
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ...protocol.content.manifests import Row
from ...protocol.errors import MissingDependency, NotFound

_WORDS_HELD_OUT = 2
_MAX_WORDS = 110


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A question that no row asks.

    `expected` is the code that a right answer contains; `contributor` taught it.
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
    """A Datanet to be: rows by contributor, and questions to measure with.

    `notice` belongs into every shard's header.
    """

    name: str
    purpose: str
    licence: str
    origin: str
    notice: str
    contributors: Mapping[str, tuple[Row, ...]]
    heldout: tuple[HeldOut, ...]

    def one_each(self) -> tuple[HeldOut, ...]:
        """A held-out question for each contributor: the first."""
        first = {question.contributor: question for question in reversed(self.heldout)}
        return tuple(first[contributor] for contributor in self.contributors)


@dataclass(frozen=True, slots=True)
class _Fact:
    """One code to know: its name, and other words for it."""

    code: str
    name: str
    answer: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """What a package provides: facts by contributor, how questions put words, and where it comes from.
    `taught` other words of each fact become rows beside its name.
    """

    purpose: str
    licence: str
    origin: str
    notice: str
    question: str
    taught: int
    areas: Mapping[str, Sequence[_Fact]]


def corpus(name: str, seed: int = 1) -> Corpus:
    """The corpus of this name: `icd10` or `cwe`.

    Raises NotFound, and MissingDependency without its package.
    """
    if name not in _SOURCES:
        raise NotFound(f"no corpus {name!r}; there are: {', '.join(CORPORA)}")
    source = _SOURCES[name]()
    return Corpus(
        name=name,
        purpose=source.purpose,
        licence=source.licence,
        origin=source.origin,
        notice=source.notice,
        contributors={
            area: tuple(row for fact in facts for row in _rows(source, fact, seed))
            for area, facts in source.areas.items()
        },
        heldout=tuple(
            HeldOut(source.question.format(words), fact.answer, fact.code, area)
            for area, facts in source.areas.items()
            for fact in facts
            for words in _divide(fact, source.taught, seed)[1]
        ),
    )


def _rows(source: _Source, fact: _Fact, seed: int) -> Iterator[Row]:
    for words in _divide(fact, source.taught, seed)[0]:
        asked = source.question.format(words)
        yield Row(asked, fact.answer, _digest(f"{seed}/{asked}/{fact.answer}"))


def _divide(fact: _Fact, taught: int, seed: int) -> tuple[list[str], list[str]]:
    """Words that rows have (the name among them), and words that are held out: at least one for each fact."""
    ordered = sorted(fact.words, key=lambda words: _digest(f"{seed}/{words}"))
    taught = min(taught, len(ordered) - 1)
    return [fact.name, *ordered[:taught]], ordered[taught : taught + _WORDS_HELD_OUT]


def _digest(text: str) -> bytes:
    return hashlib.sha256(f"commonlore/corpus/1/{text}".encode()).digest()


def _distinct(texts: Iterable[str], name: str) -> list[str]:
    """Short texts, each once, none of them the name."""
    once = {text.lower(): text for text in texts if len(text) <= _MAX_WORDS}
    return [text for lower, text in once.items() if lower != name.lower()]


# ---- ICD-10-CM

_ICD_AREAS = {
    "psychiatry": ("F43.0", "F21", "F22", "F34.1", "F60.2", "F80.0"),
    "heart-and-blood": ("D56.1", "D69.0", "D75.1", "I20.0", "I30.1", "I33.0"),
    "chest-and-abdomen": ("K81.0", "J31.0", "J60", "J86.9", "K65.1", "N10"),
}
_NCHS = (
    "ICD-10-CM is published by the National Center for Health Statistics (CDC) and is a modification of the "
    "World Health Organization's ICD-10. Not medical advice."
)


def _icd10() -> _Source:
    icd = _import("simple_icd_10_cm")
    return _Source(
        purpose="ICD-10-CM codes from psychiatry, heart and blood, and chest and abdomen",
        licence="public domain (US government work); packaged under MIT",
        origin=f"https://www.cdc.gov/nchs/icd/icd-10-cm, by simple-icd-10-cm {_version('simple-icd-10-cm')}",
        notice=_NCHS,
        question="What is the ICD-10-CM code for: {}?",
        taught=6,
        areas={area: [_icd_fact(icd, code) for code in codes] for area, codes in _ICD_AREAS.items()},
    )


def _icd_fact(icd: Any, code: str) -> _Fact:
    name: str = icd.get_description(code)
    terms = [term for term in icd.get_inclusion_term(code) if "NOS" not in term]
    return _Fact(code, name, f"This is {name}, ICD-10-CM code {code}.", tuple(_distinct(terms, name)))


# ---- CWE

_CWE_AREAS = {
    "memory-safety": (125, 193, 416, 476, 824),
    "injection": (22, 79, 89, 352, 611),
    "access-control": (295, 319, 330, 427, 798),
}
_MITRE = (
    "CWE content: Copyright © 2006 and later, The MITRE Corporation. CWE, CWSS, CWRAF, and the CWE logo are "
    "trademarks of The MITRE Corporation."
)


def _cwe() -> _Source:
    weaknesses = _read_weaknesses()
    words = {number: _cwe_words(weaknesses[number]) for area in _CWE_AREAS.values() for number in area}
    claims = Counter(text.lower() for texts in words.values() for text in texts)
    return _Source(
        purpose="CWE weaknesses behind reported vulnerabilities",
        licence="CWE terms of use (MITRE); packaged under MIT",
        origin=f"https://cwe.mitre.org, by cwe2 {_version('cwe2')}",
        notice=f"{_MITRE}\n\n{_read_cwe_terms()}",
        question="Which CWE weakness is this: {}?",
        taught=7,
        areas={
            area: [_cwe_fact(weaknesses[number], words[number], claims) for number in numbers]
            for area, numbers in _CWE_AREAS.items()
        },
    )


def _cwe_fact(weakness: Mapping[str, str], words: Sequence[str], claims: Mapping[str, int]) -> _Fact:
    code, name = f"CWE-{weakness['CWE-ID']}", _common_name(weakness)
    own = [
        text for text in words if claims[text.lower()] == 1
    ]  # some vulnerabilities stand under several weaknesses
    return _Fact(code, name, f"This is {name}, {code}.", tuple(_distinct(own, name)))


def _common_name(weakness: Mapping[str, str]) -> str:
    """The name that many entries give in quotes, else the entry's own."""
    quoted = re.search(r"\('(.+)'\)", weakness["Name"])
    return quoted.group(1) if quoted else weakness["Name"]


def _cwe_words(weakness: Mapping[str, str]) -> list[str]:
    """Observed vulnerabilities and alternate terms that neither give a number away nor tell of several
    weaknesses.
    """
    texts = _labelled(weakness["Observed Examples"], "DESCRIPTION") + _labelled(
        weakness["Alternate Terms"], "TERM"
    )
    return [text for text in texts if not re.search("CWE-|chain:", text, re.IGNORECASE)]


def _labelled(field: str, label: str) -> list[str]:
    """The texts under one label in MITRE's `::LABEL:text:LABEL:text::` notation."""
    return [text.strip(" .") for text in re.findall(rf"{label}:(.+?)(?::LINK|:DESCRIPTION|::)", field)]


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
        "the installed cwe2 lacks MITRE's terms of use; install commonlore[corpora] again"
    )


# ---- packages


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingDependency(
            f"this corpus needs the package {package}; install it: pip install 'commonlore[corpora]'"
        ) from None


def _version(package: str) -> str:
    return importlib.metadata.version(package)


_SOURCES: Mapping[str, Callable[[], _Source]] = {"icd10": _icd10, "cwe": _cwe}
CORPORA = tuple(_SOURCES)
"""The names that `corpus` knows."""
