from __future__ import annotations

import pytest

from commonlore.worker.engine.native.library import Unavailable, load_library


@pytest.fixture(scope="session", autouse=True)
def library() -> object:
    """The compiled library; a machine that cannot have it says why."""
    try:
        return load_library()
    except Unavailable as reason:
        pytest.skip(f"no compiled library: {reason}")
