"""The same seed gives the same actions, in another process and with another hash seed too."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import AdvertSeen, AskArrived, Completed, Dispatch, Failed
from commonlore.scheduler.policies import POLICIES

ELSEWHERE = """
import importlib.util, sys
def load(name):
    spec = importlib.util.spec_from_file_location(name, f"{sys.argv[1]}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
builders, own = load("conftest"), load("test_determinism")
print(own.digest_of(builders.build_worker, builders.build_ask, builders.NOW_MS))
"""


def random_history(seed, worker, ask, now_ms, policy):
    """Every action of a run in which workers' answers follow from the ask ids."""
    scheduler = Scheduler(SchedulerConfig(policy=policy), seed)
    log = []
    for number in range(20):
        log += scheduler.step(now_ms, AdvertSeen(worker(number)))
    for number in range(200):
        now_ms += 7
        actions = scheduler.step(now_ms, AskArrived(ask(number, deadline_ms=now_ms + 500)))
        for action in actions:
            if isinstance(action, Dispatch) and number % 3:
                event = Failed if number % 3 == 1 else lambda *at: Completed(*at, 10, 50, 5)
                actions += scheduler.step(now_ms, event(action.ask_id, action.peer))
        log += actions
    return log


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_actions(worker, ask, now_ms, policy):
    first = random_history(3, worker, ask, now_ms, policy)
    assert first == random_history(3, worker, ask, now_ms, policy)
    assert first != random_history(4, worker, ask, now_ms, policy)


def digest_of(worker, ask, now_ms):
    """Of the histories of all policies."""
    histories = [random_history(3, worker, ask, now_ms, policy) for policy in POLICIES]
    return hashlib.sha256(repr(histories).encode()).hexdigest()


def test_another_process_with_another_hash_seed_gives_the_same_actions(worker, ask, now_ms):
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent)]
    elsewhere = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == digest_of(worker, ask, now_ms)
