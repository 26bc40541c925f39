from commonlore.simulations.experiment.keys import Key, keys_of
from commonlore.simulations.experiment.scenario import load_experiment, scenario_path


def test_keys_have_values_and_what_they_allow():
    keys = {each.key: each for each in keys_of(load_experiment(scenario_path("E1")))}
    assert keys["workers.count"] == Key("workers.count", "24", "1 to 1,000,000")
    assert keys["adapters.zipf"] == Key("adapters.zipf", "0.6, 1.0, 1.4", "0 to 20, fractions too")
    assert keys["scheduler.hedge_ppm"] == Key("scheduler.hedge_ppm", "0", "0 to 1,000,000")
    assert keys["driver"] == Key("driver", "kernel", "kernel, virtual")
    assert keys["rows"] == Key("rows", "true", "true, false")
    assert keys["work.prompt_mu"].value == "unset"
    assert keys["workers.mix"] == Key("workers.mix", "[]", "a list")
    assert keys["scheduler.policy"].value.startswith("affinity_and_load, consistent_hash, ")
    assert keys["work.rate_per_s"].allowed == "above 0 to 1,000,000, fractions too"
