from commonlore.simulations.experiment.tables import line_of

TEXT = """name = "x"   # first
work.rate_per_s = 1
[ workers ]
"count" = 3

[sweep]
"workers.slots" = [1, 2]
"""


def test_keys_have_lines():
    found = {key: line_of(TEXT, key) for key in ("name", "work.rate_per_s", "workers.count", "workers.slots")}
    assert found == {"name": 1, "work.rate_per_s": 2, "workers.count": 4, "workers.slots": 7}
    assert line_of(TEXT, "workers.cuont") == 3
    assert line_of(TEXT, "nothing") is None
