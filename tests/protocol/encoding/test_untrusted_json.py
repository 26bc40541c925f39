"""Nested JSON under the recursion limit that web3 leaves behind, in a process of its own that must live."""

import subprocess
import sys

import pytest

from commonlore.protocol.encoding.untrusted_json import load_json

PROGRAM = """
import sys
from commonlore.protocol.encoding.untrusted_json import load_json
sys.setrecursionlimit(100_000)
for text in ("[" * 300_000, '{"a":' * 300_000):
    try:
        load_json(text, dict)
    except RecursionError:
        print("refused")
assert sys.getrecursionlimit() == 100_000
"""


def test_open_brackets_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.split()) == (0, ["refused", "refused"]), done.stderr


def test_json_is_read_as_ever() -> None:
    assert load_json(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert load_json('{"a": 1}', pairs=tuple) == (("a", 1),)
    with pytest.raises(ValueError, match="Expecting"):
        load_json("{")
