import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.compare import compare


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
    speed, hits = compare(before, after)
    assert (speed.arm, speed.figure, speed.seeds) == ("x", "speed", 3)
    assert (speed.before, speed.after) == (2.0, 2.5)
    assert speed.is_clear
    assert not hits.is_clear


def test_what_is_the_same_is_not_listed(before):
    assert compare(before, before) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["z,0,random,1,1"], "no arm in common"),
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
