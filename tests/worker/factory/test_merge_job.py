"""What a merge may be: methods and their options, shapes, weights; and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError, TrainingFailed
from commonlore.protocol.ids import cid_of
from commonlore.worker.factory.merge_job import (
    MERGE_FILE,
    METHODS,
    MergeJob,
    MergePart,
    MergePlan,
    MergeResult,
    check_weights,
    make_plan,
    merged_rank,
    read_merge,
    read_merged,
    write_merge,
    write_merged,
)


def part(rank: int = 8, targets: tuple[str, ...] = ("q_proj", "o_proj"), weight: int = PPM) -> MergePart:
    return MergePart(cid_of(bytes([rank])), Path("/somewhere"), weight, rank, 2 * rank, targets)


def test_a_plan_states_its_defaults_and_nothing_that_decides_nothing() -> None:
    assert make_plan("linear") == MergePlan("linear", PPM, 0, 0)
    assert make_plan("ties") == MergePlan("ties", PPM // 2, 0, 0)
    assert make_plan("dare_ties_svd", seed=0, rank=4) == MergePlan("dare_ties_svd", PPM // 2, 0, 4)
    assert make_plan("dare_linear", density_ppm=PPM).seed == 1


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("slerp", {}, f"no merging method 'slerp'; choose one of {', '.join(METHODS)}"),
        ("linear", {"density_ppm": PPM}, "a density means nothing to the method linear"),
        ("ties", {"seed": 1}, "a seed means nothing to the method ties"),
        ("cat", {"rank": 8}, "a rank means nothing to the method cat"),
        ("ties", {"density_ppm": 0}, "a density of 0.0; it must lie above 0 and be at most 1"),
        ("ties", {"density_ppm": PPM + 1}, "a density of 1.000001; it must lie above 0 and be at most 1"),
        ("svd", {"rank": 0}, "a rank of 0; 1 to 256 can be served"),
        ("svd", {"rank": 257}, "a rank of 257; 1 to 256 can be served"),
    ],
)
def test_a_plan_without_a_meaning(method: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_plan(method, **options)


def test_the_rank_of_a_merge() -> None:
    alike, different = [part(), part()], [part(), part(4), part(16, ("q_proj",))]
    assert {merged_rank(make_plan(m), alike) for m in ("linear", "ties", "dare_linear", "dare_ties")} == {8}
    assert (merged_rank(make_plan("cat"), alike), merged_rank(make_plan("cat"), different)) == (16, 28)
    assert merged_rank(make_plan("ties_svd"), different) == 16
    assert merged_rank(make_plan("svd", rank=3), different) == 3


@pytest.mark.parametrize(
    ("method", "parts", "says"),
    [
        ("linear", [part(), part(4)], r"have different ranks \(8, 4\): use --method svd or cat"),
        ("linear", [part(), part(8, ("q_proj",))], "have different targets: use --method svd or cat"),
        ("dare_ties", [part(), part(4)], "use --method dare_ties_svd"),
        ("cat", [part(200), part(57)], "cat makes a rank of 257; at most 256 is served: use --method svd"),
    ],
)
def test_adapters_that_a_method_cannot_merge(method: str, parts: list[MergePart], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        merged_rank(make_plan(method), parts)


def test_targets_in_another_order_are_the_same() -> None:
    assert merged_rank(make_plan("linear"), [part(), part(8, ("o_proj", "q_proj"))]) == 8


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([PPM], "a merge of 1 adapters; it takes 2 to 8"),
        ([1] * 9, "a merge of 9 adapters; it takes 2 to 8"),
        ([PPM, 0], "a weight of 0; it must lie above 0 and be at most 10"),
        ([PPM, 11 * PPM], "a weight of 11; it must lie above 0 and be at most 10"),
    ],
)
def test_weights_that_no_merge_takes(weights: list[int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_weights(weights)
    check_weights([1, 10 * PPM])


def test_a_folder_says_what_to_merge_and_what_came_of_it(tmp_path: Path) -> None:
    job = MergeJob("ann/both", tmp_path, (part(), part(4, weight=3)), make_plan("dare_ties_svd"), threads=2)
    write_merge(tmp_path / "job", job)
    assert read_merge(tmp_path / "job") == job
    with pytest.raises(TrainingFailed, match="has not ended"):
        read_merged(tmp_path / "job")
    result = MergeResult(8, ("q_proj",), "fp32", 1_000)
    write_merged(tmp_path / "job", result)
    assert read_merged(tmp_path / "job") == result
    with pytest.raises(ConfigError, match="no merge in"):
        read_merge(tmp_path)
    for content in ("{}", "[1]", '{"parts": [{}]}', "{"):
        (tmp_path / "job" / MERGE_FILE).write_text(content)
        with pytest.raises(ConfigError, match="does not describe a merge"):
            read_merge(tmp_path / "job")
