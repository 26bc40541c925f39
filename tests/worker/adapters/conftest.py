from __future__ import annotations

from pathlib import Path

import pytest

from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.types import AdapterSource
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return build_tiny(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def source(tiny: BaseModel, tmp_path: Path) -> AdapterSource:
    return write_fake_adapter(tmp_path / "adapter.safetensors", tiny.architecture, rank=4)
