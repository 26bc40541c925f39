import json

import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.results.compare import compare, read_summary


def write(folder, rows):
    folder.mkdir()
    (folder / "summary.csv").write_text("\n".join(["arm,seed,policy,speed,hits", *rows]) + "\n")
    return folder


@pytest.fixture
def before(tmp_path):
    return write(tmp_path / "a", ["x,0,random,1.0,5", "x,1,random,2.0,6", "x,2,random,3.0,7"])


def test_a_difference_is_clear_seed_by_seed(before, tmp_path):
    after = write(
        tmp_path / "b", ["x,0,random,1.5,5", "x,1,random,2.51,9", "x,2,random,3.49,5", "y,0,random,1,1"]
    )
    found = compare(before, after)
    speed, hits = found.changes
    assert (speed.arm, speed.figure, speed.seeds) == ("x", "speed", 3)
    assert (speed.before, speed.after) == (2.0, 2.5)
    assert speed.is_clear
    assert not hits.is_clear
    assert (found.compared, found.seeds, found.left_out) == (2, 3, ("y",))
    assert found.by_chance == pytest.approx(0.1)
    assert speed.relative == pytest.approx(0.25)


def test_what_is_the_same_is_not_listed(before):
    found = compare(before, before)
    assert (found.changes, found.compared, found.settings) == ((), 2, ())


def test_two_single_arms_are_compared_whatever_their_names(before, tmp_path):
    (change,) = compare(before, write(tmp_path / "b", ["z,1,random,2.5,6", "z,7,random,2.5,6"])).changes
    assert (change.arm, change.figure, change.difference.mean) == ("x -> z", "speed", 0.5)
    assert not change.is_clear, "one seed in common says nothing of chance"


def test_settings_that_differ_are_told(before, tmp_path):
    after = write(tmp_path / "b", ["x,0,random,1.5,5"])
    for folder, count in ((before, 2), (after, 3)):
        arms = {"x": {"name": str(count), "workers": {"count": count, "slots": 1}}}
        (folder / "manifest.json").write_text(json.dumps({"arms": arms, "code_sha256": count, "numpy": "1"}))
    assert compare(before, after).settings == ("workers.count 2 -> 3", "the code changed")


def test_swept_keys_are_no_figures(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text("arm,seed,work.rate_per_s,asks\na,0,1.5,7\n")
    assert read_summary(tmp_path) == {("a", 0): {"asks": 7.0}}


def test_arms_with_other_seeds_are_left_out(before, tmp_path):
    rows = ["x,9,random,1,1", "y,0,random,1,1"]
    both = write(tmp_path / "b", [*rows, "w,0,random,1,1"])
    assert compare(write(tmp_path / "a2", ["x,0,a,1,1", "y,0,a,2,1"]), both).left_out == (
        "w",
        "x (other seeds)",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["z,0,random,1,1", "w,0,random,1,1"], "no arm in common: .* has 'x', .* has 'z' and 1 more"),
        (["x,9,random,1,1"], "other seeds"),
        (["x,one,random,1,1"], "a seed in it is no number"),
        ([], "is no summary"),
    ],
)
def test_what_cannot_be_compared_is_said(before, tmp_path, rows, message):
    with pytest.raises(ConfigError, match=message):
        compare(before, write(tmp_path / "b", rows))
    with pytest.raises(ConfigError, match="give a folder that"):
        compare(before, tmp_path / "nowhere")
