from __future__ import annotations

from pathlib import Path

import pytest

from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return build_tiny(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
