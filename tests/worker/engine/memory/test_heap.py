from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys
import numpy as np
from commonlore.worker.engine.memory.heap import keep_freed

if sys.argv[1] == "kept":
    keep_freed()

def use():
    return [np.ones(50_000) for _ in range(6)]

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_what_was_freed_is_used_again_without_faults() -> None:
    assert faults("kept") < 1_000 < faults("as it is")
