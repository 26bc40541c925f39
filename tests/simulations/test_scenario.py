import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.scenario import load_experiment, read_experiment, scenario_names, scenario_path


@pytest.mark.parametrize("name", scenario_names())
def test_packaged_scenarios_can_be_read(name):
    experiment = load_experiment(scenario_path(name))
    assert experiment.name == name
    assert experiment.about
    assert len({arm.label for arm in experiment.arms}) == len(experiment.arms) > 1


def test_a_sweep_is_every_combination(table):
    table["sweep"] = {"scheduler.policy": ["random", "cheapest"], "work.exponent": [1, 0.5]}
    arms = read_experiment(table).arms
    assert [arm.label for arm in arms] == [
        "policy=random, exponent=1",
        "policy=random, exponent=0.5",
        "policy=cheapest, exponent=1",
        "policy=cheapest, exponent=0.5",
    ]
    assert (arms[3].scenario.scheduler.policy, arms[3].scenario.work.exponent) == ("cheapest", 0.5)
    assert arms[3].scenario.workers.count == 4


def test_without_a_sweep_there_is_one_arm(table):
    del table["sweep"]
    assert [arm.label for arm in read_experiment(table).arms] == ["affinity_and_load"]


def test_the_digest_is_of_the_meaning(table):
    first = read_experiment(table).digest
    assert first == read_experiment(dict(reversed(table.items()))).digest
    table["work"]["rate_per_s"] = 7.0
    assert first != read_experiment(table).digest


def test_overrides_replace_and_add_to_the_sweep(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nabout = ""\n[sweep]\n"scheduler.policy" = ["random"]\n')
    overrides = {"scheduler.policy": ("cheapest",), "workers.count": (1, 2)}
    assert [arm.label for arm in load_experiment(path, overrides).arms] == [
        "policy=cheapest, count=1",
        "policy=cheapest, count=2",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("wokers", {}, "unknown key wokers; known: name, about"),
        ("workers", {"cuont": 3}, "unknown key workers.cuont; known: count"),
        ("workers", {"count": "3"}, "workers.count is '3'; it must be a value of type int"),
        ("workers", {"count": True}, "workers.count is True"),
        ("workers", 3, "workers is 3; it must be a value of type WorkerModel"),
        ("workers", {"count": 0}, "must be at least 1"),
        ("work", {"base_share": 1.5}, "between 0 and 1"),
        ("work", {"skew": "pareto"}, "choose zipf or power"),
        ("work", {"rate_per_s": 0}, "must be above 0"),
        ("scheduler", {"policy": "best"}, "unknown routing policy 'best'"),
        ("duration_ms", 1_000, "duration_ms must be above warmup_ms"),
        ("sweep", {"work.exponent": 1}, r"\[sweep\] maps dotted keys to lists"),
        ("sweep", {"work.exponent": []}, r"\[sweep\] maps dotted keys to lists"),
        ("sweep", {"work.exponant": [1]}, "unknown key work.exponant"),
        ("sweep", {"name.first": ["x"]}, "name.first: there is no table name"),
        ("sweep", [], r"\[sweep\] maps"),
    ],
)
def test_mistakes_are_named(table, key, value, message):
    del table["sweep"]
    table[key] = value
    with pytest.raises(ConfigError, match=message):
        read_experiment(table)


def test_what_is_missing_is_named(table):
    del table["about"]
    with pytest.raises(ConfigError, match="about is missing"):
        read_experiment(table)


@pytest.mark.parametrize("content", [b"name = ", b"\xff"])
def test_files_that_are_not_toml(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml: "):
        load_experiment(path)


def test_unknown_scenarios_are_named():
    with pytest.raises(
        ConfigError, match=r"no scenario 'frist_light'; give a \.toml file or one of: churn, first_light"
    ):
        scenario_path("frist_light")
