from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

from commonlore.worker.engine.exllamav2.engine import ExLlamaV2Engine
from commonlore.worker.engine.exllamav2.library import Library
from commonlore.worker.engine.types import AdapterSource, EngineConfig
from commonlore.worker.models.artefacts import Artefact
from commonlore.worker.models.reference import BaseModel

BuildExl2 = Callable[..., ExLlamaV2Engine]


@pytest.fixture(scope="session")
def library() -> Library:
    """exllamav2's own classes over the fake extension."""
    if find_spec("exllamav2") is None:
        pytest.skip("exllamav2 is not installed (extra exl2)")
    from commonlore.worker.engine.exllamav2.fake import import_on_cpu

    return import_on_cpu()


@pytest.fixture(scope="session")
def artefact(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """The tiny base under EXL2's names, its matrices reordered as real ones are."""
    from commonlore.worker.engine.exllamav2.fake import write_fake_artefact

    return write_fake_artefact(tiny, tmp_path_factory.mktemp("artefacts"))


@pytest.fixture(scope="session")
def build_exl2(
    library: Library, artefact: Artefact, tiny: BaseModel, adapters: list[AdapterSource]
) -> BuildExl2:
    """An engine on exllamav2 with all adapters loaded."""

    def build(mixed: bool = True, **changes: object) -> ExLlamaV2Engine:
        fields = {
            "base_dir": str(tiny.directory),
            "artefact_dir": str(artefact.directory),
            "engine": "exllamav2",
            "pages": 512,
        }
        engine = ExLlamaV2Engine(EngineConfig(**(fields | changes)), library, mixed=mixed)
        for source in adapters:
            if source.rank <= engine.facts.max_rank:
                engine.load_adapter(source)
        return engine

    return build


@pytest.fixture(scope="session")
def exl2(build_exl2: BuildExl2) -> ExLlamaV2Engine:
    """In mixed mode; tests leave it idle."""
    return build_exl2()


@pytest.fixture(scope="session")
def switching(build_exl2: BuildExl2) -> ExLlamaV2Engine:
    """Draining and switching; tests leave it idle."""
    return build_exl2(mixed=False)
