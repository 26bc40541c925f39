import pytest

from commonlore.protocol.errors import ConfigError
from commonlore.simulations.experiment.scenario import (
    load_experiment,
    parse_overrides,
    read_experiment,
    scenario_names,
    scenario_path,
)


@pytest.mark.parametrize("name", scenario_names())
def test_packaged_scenarios_can_be_read(name):
    experiment = load_experiment(scenario_path(name))
    assert experiment.name == name
    assert experiment.about
    assert len({arm.label for arm in experiment.arms}) == len(experiment.arms)


def test_a_sweep_is_every_combination(table):
    table["sweep"] = {"scheduler.policy": ["random", "cheapest"], "adapters.zipf": [1, 0.5]}
    arms = read_experiment(table).arms
    assert [arm.label for arm in arms] == [
        "policy=random, zipf=1",
        "policy=random, zipf=0.5",
        "policy=cheapest, zipf=1",
        "policy=cheapest, zipf=0.5",
    ]
    assert (arms[3].scenario.scheduler.policy, arms[3].scenario.adapters.zipf) == ("cheapest", 0.5)
    assert arms[3].scenario.workers.count == 4


def test_labels_say_which_key_they_mean(table):
    table["sweep"] = {"workers.count": [1], "adapters.count": [2], "adapters.zipf": [3]}
    assert read_experiment(table).arms[0].label == "workers.count=1, adapters.count=2, zipf=3"


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
        "count=1",
        "count=2",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("wokers", {}, "unknown key wokers; known: name, about"),
        ("workers", {"cuont": 3}, "unknown key workers.cuont; known: model, count"),
        ("workers", {"count": "3"}, "workers.count is '3'; it must be a value of type int"),
        ("workers", {"count": True}, "workers.count is True"),
        ("workers", 3, "workers is 3; it must be a value of type WorkerModel"),
        ("workers", {"count": 0}, "workers.count is 0; it must be at least 1"),
        ("adapters", {"base_share": 1.5}, "adapters.base_share is 1.5; it must be at most 1"),
        ("adapters", {"zipf": 1.0, "power": 1.0}, "either adapters.zipf or adapters.power"),
        ("work", {"arrivals": "late"}, "work.arrivals is 'late'; choose one of: gamma, bursts"),
        ("work", {"rate_per_s": 0}, "work.rate_per_s is 0; it must be above 0"),
        ("work", {"rate_per_s": -2.5}, "work.rate_per_s is -2.5; it must be above 0"),
        ("work", {"rate_per_s": float("nan")}, "work.rate_per_s is nan; it must be a finite number"),
        ("work", {"rate_per_s": 1e12}, "work.rate_per_s is 1e\\+12; it must be at most 1,000,000"),
        ("work", {"prompt_mu": float("inf")}, "work.prompt_mu is inf; it must be a finite number"),
        ("work", {"trace": "pcap:x"}, "work.trace is 'pcap:x'; write it like one of: azure:FILE"),
        ("workers", {"mix": [[0.5]]}, "workers.mix holds pairs"),
        ("adapters", {"ranks": [[1, 65]]}, "holds whole ranks, at most workers.max_rank"),
        ("adapters", {"ranks": [[1, 8.5]]}, "adapters.ranks"),
        ("kind", "weather", "unknown kind 'weather'; choose one of: service"),
        ("scheduler", {"policy": "best"}, "unknown routing policy 'best'"),
        ("duration_ms", 1_000, "duration_ms must be above warmup_ms"),
        ("sweep", {"adapters.zipf": 1}, r"\[sweep\] maps dotted keys to lists"),
        ("sweep", {"adapters.zipf": []}, r"\[sweep\] maps dotted keys to lists"),
        ("sweep", {"adapters.zopf": [1]}, "unknown key adapters.zopf"),
        ("sweep", {"adapters.zipf": [1, 2, 1]}, "adapters.zipf is swept over a value twice: 1, 2, 1"),
        ("sweep", {"name.first": ["x"]}, "name.first: there is no table name"),
        ("sweep", [], r"\[sweep\] maps"),
        ("sweep", {"name": ["tiny", "../up"]}, r"name is '\.\./up'; it must have up to 64 letters"),
        ("name", "/tmp/here", "name is '/tmp/here'; it must have"),
        ("name", "..", "the first of them no dot"),
        ("name", "", "name is ''; it must have"),
        ("name", "a" * 65, "up to 64 letters"),
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
        ConfigError, match=r"no scenario 'frist_light'; give a \.toml file or one of: capacity, churn"
    ):
        scenario_path("frist_light")


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ('name = "x"\nabout = ""\n[work]\nrate_per_s = -1', 4, "work.rate_per_s is -1; it must be above 0"),
        ('about = ""\nname = "a/b"', 2, "name is 'a/b'; it must have up to 64 letters"),
        ('name = "x"\nabout = ""\n\n[workers]\nmax_queue = 0', 5, "workers.max_queue is 0; it must be at"),
        ('name = "x"\nabout = ""\n\n[wrok]\n', 4, "unknown key wrok"),
        ('name = "x"\nabout = ""\nwork.rate_per_s = nan', 3, "must be a finite number"),
        ('name = "x"\nabout = ""\n[sweep]\n"work.rate_per_s" = [1, 0]', 4, "work.rate_per_s is 0"),
        ('name = "x"\nabout = ""\n[scheduler]\npolicy = "best"', 4, "unknown routing policy 'best'"),
        ('name = "x"\nabout = ""\n[work]\nlengths = "long"', 4, "unknown work.lengths 'long'"),
        ('name = "x"\nabout = ""\n[work]\ntrace = "csv:none.csv"', 4, "No such file"),
        ('name = "x"\nabout = ""\n[work]\ntrace = "csv:empty.csv"', 4, "empty.csv holds no requests"),
        ('name = "x"\nabout = ""\n[work]\ntrace = "csv:wrong.csv"', 4, "wrong.csv, line 3: not a request"),
        (
            'name = "x"\nabout = ""\n[work]\ntrace = "azure:wrong.csv"',
            4,
            "wrong.csv, line 1: no column TIMESTAMP",
        ),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, lines, line, reason):
    (tmp_path / "bad.toml").write_text(lines)
    (tmp_path / "empty.csv").write_text("arrival_s,prompt_tokens,output_tokens\n")
    (tmp_path / "wrong.csv").write_text("arrival_s,prompt_tokens,output_tokens\n1,2,3\nnan,4,5\n")
    with pytest.raises(ConfigError) as wrong:
        load_experiment(tmp_path / "bad.toml")
    assert f"bad.toml, line {line}: " in str(wrong.value)
    assert reason in str(wrong.value)


@pytest.mark.parametrize("key", ["sweep", "sweep.workers.count"])
def test_a_sweep_is_not_set_by_a_parameter(tmp_path, key):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nabout = ""\n')
    with pytest.raises(ConfigError, match="give the key that is swept"):
        load_experiment(path, {key: (1,)})


def test_parameters_are_read():
    texts = ["adapters.zipf=0.6,1", "scheduler.policy=random", "money.trees=false", "workers.mix=[[1, 2]],[]"]
    assert parse_overrides(texts) == {
        "workers.mix": ([[1, 2]], []),
        "adapters.zipf": (0.6, 1),
        "scheduler.policy": ("random",),
        "money.trees": (False,),
    }
    with pytest.raises(ConfigError, match="not a parameter: 'zipf'; write it like"):
        parse_overrides(["zipf"])


@pytest.mark.parametrize(("name", "file"), [("E1", "e1_scheduling"), ("churn", "churn")])
def test_names_may_be_short(name, file):
    assert scenario_path(name).stem == file


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [("scheduler", "hedge_ppm", 1), ("adapters", "ranks", [[1, 8]]), ("workers", "placement_ms", 1)],
)
def test_what_closed_form_workers_cannot_do_is_refused(table, place, key, value):
    table["workers"]["model"] = "seats"
    table.setdefault(place, {})[key] = value
    with pytest.raises(ConfigError, match=rf'{place}\.{key}|workers.model = "batching"'):
        read_experiment(table)
