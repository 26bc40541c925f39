"""From samples to rows, and from rows to ratios. No clocks here.

Rules of this file:
- A row's figures are medians over its rounds, with their range; latencies are percentiles over all answers
  of all rounds.
- A ratio is the median over rounds of (ours / theirs) of one round, so that what slows the machine for a
  while slows both sides of it. Speeds are tokens per CPU-second.
- The best peer of a row is the one with the highest median, whatever its precision. It is compared with our
  arm that keeps no fewer bits: int4 with a peer of four bits, bf16 with any other, one of eight bits too, and
  wherever we lack int4.
- The best unquantised peer is compared with bf16 beside that: a quantised one computes another model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..figures import Figure, median, percentile, rounded
from .catalogue import BY_NAME, ArmName
from .jobs import Message

FOUR_BITS = ("int4", "q4_0", "q4_1")
QUANTISED = (*FOUR_BITS, "q8_0")
OWN = "ours-bf16"


@dataclass(frozen=True, slots=True)
class Sample:
    """One job in one arm."""

    seconds: float
    cpu_s: float
    tokens: int
    ttft_ms: tuple[float, ...]
    tpot_ms: tuple[float, ...]
    begins: tuple[int | str, ...] = ()

    @property
    def tokens_per_cpu_s(self) -> float:
        """What a processor gives while it works."""
        return self.tokens / self.cpu_s

    @property
    def tokens_per_s(self) -> float:
        """What came by the wall's clock."""
        return self.tokens / self.seconds


def sample_of(said: Mapping[str, object]) -> Sample:
    """A child's report."""
    fields = {name: said[name] for name in ("seconds", "cpu_s", "tokens")}
    lists = {name: tuple(said[name]) for name in ("ttft_ms", "tpot_ms", "begins")}  # type: ignore[arg-type]
    return Sample(**fields, **lists)  # type: ignore[arg-type]


Samples = Mapping[tuple[str, str], Sequence[Sample]]
"""By (row, arm), in the order of the rounds."""


def row_message(row: str, arm: str, samples: Sequence[Sample]) -> Message:
    """A row of the result."""
    return {
        "row": row,
        "arm": arm,
        "precision": BY_NAME[arm].precision,
        "rounds": [rounded(sample.tokens_per_cpu_s) for sample in samples],
        "tokens_per_cpu_s": spread(median([sample.tokens_per_cpu_s for sample in samples])),
        "tokens_per_s": spread(median([sample.tokens_per_s for sample in samples])),
        **latencies(samples),
    }


def latencies(samples: Sequence[Sample]) -> Message:
    """Percentiles over all answers."""
    ttft = [value for sample in samples for value in sample.ttft_ms]
    tpot = [value for sample in samples for value in sample.tpot_ms]
    return {
        f"{name}_p{percent}": rounded(percentile(values, percent))
        for name, values in (("ttft_ms", ttft), ("tpot_ms", tpot))
        for percent in (50, 99)
    }


def spread(figure: Figure) -> list[float]:
    """[median, lowest, highest], for JSON."""
    return [rounded(figure.value), rounded(figure.low), rounded(figure.high)]


# ---- ratios


@dataclass(frozen=True, slots=True)
class Ratio:
    """`ours` over `theirs`, each (row, arm)."""

    ours: tuple[str, str]
    theirs: tuple[str, str]
    figure: Figure

    @property
    def value(self) -> float:
        """For the head of a result."""
        return rounded(self.figure.value)

    def message(self) -> Message:
        """What was compared with what."""
        return {
            "ours": " ".join(self.ours),
            "theirs": " ".join(self.theirs),
            "ratio": spread(self.figure),
        }


def ratio(samples: Samples, ours: tuple[str, str], theirs: tuple[str, str]) -> Ratio | None:
    """Round by round; None when a side was not measured."""
    pairs = list(zip(samples.get(ours, ()), samples.get(theirs, ()), strict=False))
    if not pairs:
        return None
    return Ratio(
        ours, theirs, median([own.tokens_per_cpu_s / other.tokens_per_cpu_s for own, other in pairs])
    )


def best_peer(samples: Samples, row: str, *, unquantised: bool = False) -> str | None:
    """The peer with the highest median in this row, of all or of those that have the base's own weights."""
    medians = {
        arm: median([sample.tokens_per_cpu_s for sample in measured]).value
        for (measured_row, arm), measured in samples.items()
        if measured_row == row
        and measured
        and not BY_NAME[arm].ours
        and not (unquantised and BY_NAME[arm].precision in QUANTISED)
    }
    return max(medians, key=lambda arm: medians[arm], default=None)


def own_counterpart(peer: str, present: Iterable[str]) -> str:
    """Our arm that is compared with this peer in a headline."""
    if BY_NAME[peer].precision in FOUR_BITS and "ours-int4" in present:
        return "ours-int4"
    return OWN


def headline(samples: Samples, row: str) -> Ratio | None:
    """Our like arm against the best peer of a row."""
    peer = best_peer(samples, row)
    if peer is None:
        return None
    present = {arm for measured_row, arm in samples if measured_row == row}
    return ratio(samples, (row, own_counterpart(peer, present)), (row, peer))


def unquantised_headline(samples: Samples, row: str) -> Ratio | None:
    """Our bf16 arm against the best peer with the base's own weights."""
    peer = best_peer(samples, row, unquantised=True)
    return None if peer is None else ratio(samples, (row, OWN), (row, peer))


def all_ratios(samples: Samples, row: str, own: Iterable[ArmName]) -> dict[str, Message]:
    """Each of our arms against the best peer of a row, by our arm."""
    peer = best_peer(samples, row)
    found = {arm.name: ratio(samples, (row, arm.name), (row, peer)) for arm in own} if peer else {}
    return {name: each.message() for name, each in found.items() if each is not None}


def agreement(
    ours: Sequence[Sample], theirs: Sequence[Sample], text_of: Callable[[int], str]
) -> float | None:
    """How many answers to the same asks begin with the same token; None when nothing can be compared.

    Of an engine that gives text only, the answer's first characters are compared.
    """
    same = [
        own == other if isinstance(other, int) else other.startswith(text_of(own))
        for a, b in zip(ours, theirs, strict=False)
        for own, other in zip(a.begins, b.begins, strict=False)
        if isinstance(own, int) and (isinstance(other, int) or "\ufffd" not in text_of(own))
    ]
    return rounded(sum(same) / len(same)) if same else None
