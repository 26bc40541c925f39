"""A merge's folder: which adapter files are combined, and how, stands in merge.json.

Rules of this file:
- No torch, as in `job`. Every file appears whole or not at all.
- Methods are peft's (`LoraModel.add_weighted_adapter`). `linear`, `ties`, `dare_linear` and `dare_ties`
  combine the factors A and B each for themselves: an approximation, and only of adapters of one rank and the
  same targets. `cat` puts factors side by side: exact, and the ranks add up. The `svd` ones combine the whole
  updates and keep the `rank` largest singular values of the result.
- What an option cannot mean to a method is an error, never ignored: a manifest records no number that
  decided nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...protocol.content.compositions import MAX_ADAPTERS
from ...protocol.content.manifests import AdapterManifest
from ...protocol.encoding.fields import PPM
from ...protocol.errors import ConfigError, TrainingFailed
from ...protocol.ids import Cid
from ..adapters.validate import MAX_RANK
from .job import write_whole

MERGE_FILE = "merge.json"
MERGED_FILE = "merged.json"
METHODS = (
    *("linear", "cat", "svd", "ties", "ties_svd"),
    *("dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd"),
)
MAX_WEIGHT_PPM = 10 * PPM
DEFAULT_DENSITY_PPM = PPM // 2
DEFAULT_SEED = 1


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How adapters are combined; see `make_plan`. `rank` 0 is the method's own."""

    method: str
    density_ppm: int = PPM
    seed: int = 0
    rank: int = 0

    @property
    def prunes(self) -> bool:
        """Whether it keeps only a part of each adapter's values."""
        return self.method.startswith(("ties", "dare"))

    @property
    def draws(self) -> bool:
        """Whether chance decides which values it keeps."""
        return self.method.startswith("dare")

    @property
    def elects(self) -> bool:
        """Whether the adapters vote on each value's sign (TIES)."""
        return "ties" in self.method

    @property
    def decomposes(self) -> bool:
        """Whether it combines whole updates and factors the result anew."""
        return self.method.endswith("svd")


@dataclass(frozen=True, slots=True)
class MergePart:
    """One of the adapters: its safetensors, its weight, and what its manifest says of its shape."""

    adapter: Cid
    path: Path
    weight_ppm: int
    rank: int
    alpha: int
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MergeJob:
    """What to merge into the adapter that will be called `name`. `threads` 0 leaves the number to torch."""

    name: str
    base: Path
    parts: tuple[MergePart, ...]
    plan: MergePlan
    threads: int = 0


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What came of it. `precision` is fp32, bf16 or fp16: that of the parts, where they agree."""

    rank: int
    targets: tuple[str, ...]
    precision: str
    weights_size: int


def make_plan(
    method: str, *, density_ppm: int | None = None, seed: int | None = None, rank: int | None = None
) -> MergePlan:
    """A plan with its defaults filled in. Raises ConfigError, naming what makes no sense."""
    if method not in METHODS:
        raise ConfigError(f"no merging method {method!r}; choose one of {', '.join(METHODS)}")
    plan = MergePlan(method)
    if density_ppm is not None and not plan.prunes:
        raise ConfigError(f"a density means nothing to the method {method}; it is for ties and dare")
    if seed is not None and not plan.draws:
        raise ConfigError(f"a seed means nothing to the method {method}; it is for dare")
    if rank is not None and not plan.decomposes:
        raise ConfigError(f"a rank means nothing to the method {method}; it is for the svd methods")
    if density_ppm is not None and not 0 < density_ppm <= PPM:
        raise ConfigError(f"a density of {density_ppm / PPM}; it must lie above 0 and be at most 1")
    if rank is not None and not 0 < rank <= MAX_RANK:
        raise ConfigError(f"a rank of {rank}; 1 to {MAX_RANK} can be served")
    density = (density_ppm or DEFAULT_DENSITY_PPM) if plan.prunes else PPM
    drawn = (DEFAULT_SEED if seed is None else seed) if plan.draws else 0
    return MergePlan(method, density, drawn, rank or 0)


def merged_rank(plan: MergePlan, parts: Sequence[MergePart | AdapterManifest]) -> int:
    """The rank of the merge of adapters of these shapes. Raises ConfigError where the method cannot do it."""
    ranks, targets = [part.rank for part in parts], {frozenset(part.targets) for part in parts}
    if plan.decomposes:
        return plan.rank or max(ranks)
    if plan.method != "cat":
        what = f"ranks ({', '.join(map(str, ranks))})" if len(set(ranks)) > 1 else "targets"
        if len(set(ranks)) > 1 or len(targets) > 1:
            raise ConfigError(
                f"the method {plan.method} needs adapters alike, and these have different {what}: "
                f"use --method {other_method(plan)}"
            )
        return ranks[0]
    if sum(ranks) > MAX_RANK:
        raise ConfigError(f"cat makes a rank of {sum(ranks)}; at most {MAX_RANK} is served: use --method svd")
    return sum(ranks)


def other_method(plan: MergePlan) -> str:
    """What does the same with adapters of any shape."""
    return "svd or cat" if plan.method == "linear" else f"{plan.method}_svd"


def check_weights(weights_ppm: Sequence[int]) -> None:
    """Raises ConfigError unless there are 2 to 8 weights, each above 0 and at most 10."""
    if not 2 <= len(weights_ppm) <= MAX_ADAPTERS:
        raise ConfigError(f"a merge of {len(weights_ppm)} adapters; it takes 2 to {MAX_ADAPTERS}")
    for ppm in weights_ppm:
        if not 0 < ppm <= MAX_WEIGHT_PPM:
            most = MAX_WEIGHT_PPM // PPM
            raise ConfigError(f"a weight of {ppm / PPM:g}; it must lie above 0 and be at most {most}")


def write_merge(job_dir: Path, job: MergeJob) -> None:
    """Make `job_dir` the folder of this merge."""
    job_dir.mkdir(parents=True, exist_ok=True)
    described = {**asdict(job), "base": str(job.base.resolve())}
    described["parts"] = [{**asdict(part), "path": str(part.path.resolve())} for part in job.parts]
    write_whole(job_dir / MERGE_FILE, json.dumps(described, indent=1).encode())


def read_merge(job_dir: Path) -> MergeJob:
    """The merge of a folder. Raises ConfigError."""
    path = job_dir / MERGE_FILE
    try:
        raw = json.loads(path.read_bytes())
        parts = tuple(
            MergePart(**part | {"path": Path(part["path"]), "targets": tuple(part["targets"])})
            for part in raw.pop("parts")
        )
        return MergeJob(**raw | {"base": Path(raw["base"]), "parts": parts, "plan": MergePlan(**raw["plan"])})
    except OSError as wrong:
        raise ConfigError(f"no merge in {job_dir}: {wrong.strerror}; write one first") from None
    except (ValueError, TypeError, KeyError, AttributeError) as wrong:
        raise ConfigError(f"{path} does not describe a merge: {wrong}; write it again") from None


def write_merged(job_dir: Path, result: MergeResult) -> None:
    """The last file of a merge: with it the merge has ended."""
    write_whole(job_dir / MERGED_FILE, json.dumps(asdict(result), indent=1).encode())


def read_merged(job_dir: Path) -> MergeResult:
    """What came of a merge that has ended. Raises TrainingFailed where it has not."""
    try:
        raw = json.loads((job_dir / MERGED_FILE).read_bytes())
        return MergeResult(**raw | {"targets": tuple(raw["targets"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise TrainingFailed(f"the merge in {job_dir} has not ended; order it again") from None
