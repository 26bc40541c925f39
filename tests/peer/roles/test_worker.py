"""What a worker's settings make its engine load."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonlore.peer.config import Config
from commonlore.peer.roles.worker import artefact_directory
from commonlore.protocol.errors import NotFound
from commonlore.worker.models.artefacts import artefacts_dir, publish_artefact
from commonlore.worker.models.tiny import build_tiny


def test_an_engine_that_quantises_loads_an_artefact_of_its_base(tmp_path: Path) -> None:
    base = build_tiny(tmp_path)
    assert artefact_directory(Config(cache_dir=str(tmp_path)), base.directory) == ""
    chosen = Config(cache_dir=str(tmp_path), engine="exllamav2")
    with pytest.raises(NotFound, match="run `commonlore base quantize tiny`"):
        artefact_directory(chosen, base.directory)
    work = artefacts_dir(tmp_path) / ".work"
    work.mkdir(parents=True)
    for name in ("config.json", "output.safetensors"):
        (work / name).write_text("{}")
    artefact = publish_artefact(work, tmp_path, base.id, "4bpw-h6")
    assert artefact_directory(chosen, base.directory) == str(artefact.directory)
    by_id = Config(cache_dir=str(tmp_path), engine="exllamav2", artefact=artefact.id)
    assert artefact_directory(by_id, base.directory) == str(artefact.directory)
