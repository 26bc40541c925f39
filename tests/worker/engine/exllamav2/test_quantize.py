"""The conversion around exllamav2's: a stand-in script in its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from commonlore.protocol.errors import ConfigError, InvalidModel, MissingDependency
from commonlore.worker.engine.exllamav2.quantize import (
    Options,
    check_options,
    convert,
    library_config,
    quantize_base,
)
from commonlore.worker.models.artefacts import Artefact, find_artefact, load_artefact
from commonlore.worker.models.reference import BaseModel, no_progress
from commonlore.worker.models.tiny import build_tiny

CONVERSION = """
import json, pathlib, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
source, job, output = (pathlib.Path(given[name]) for name in ("-i", "-o", "-cf"))
state = job / "job_new.json"
done = json.loads(state.read_text())["steps"] if state.exists() else 0
print(" -- Measuring quantization impact...")
for layer in range(done, 3):
    print(f" -- Layer: model.layers.{layer} (Attention)")
    print(f" -- Layer: model.layers.{layer} (MLP)")
    state.write_text(json.dumps({"steps": layer + 1, "progress": "quant"}))
    if (source.parent / "stop").exists():
        print(" ** Error: the device fell off")
        sys.exit()
print(" -- Quantizing...")
config = json.loads((source / "config.json").read_text())
(output / "config.json").write_text(json.dumps(config | {"given": given["-b"], "began": done}))
(output / "tokenizer.json").write_text((source / "tokenizer.json").read_text())
(output / "output.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:100])
state.write_text(json.dumps({"steps": 3, "progress": "finished"}))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "convert.py"
    script.write_text(CONVERSION)
    return [sys.executable, str(script)]


def work_of(cache: Path) -> Path:
    (work,) = (path for path in (cache / "artefacts").glob(".work-*") if path.is_dir())
    return work


def test_what_comes_of_it_is_an_artefact_and_nothing_is_left(
    tiny: BaseModel, tmp_path: Path, command: list[str]
) -> None:
    told: list[tuple[str, int, int]] = []
    artefact = convert(tiny, tmp_path, Options(3.5, 4), lambda *one: told.append(one), command)
    assert artefact.manifest.reference == tiny.id
    assert (artefact.manifest.format, artefact.manifest.precision) == ("exl2", "3.5bpw-h4")
    assert artefact.directory == tmp_path / "artefacts" / artefact.id
    names = {path.name for path in artefact.directory.iterdir()}
    assert names == {"config.json", "output.safetensors", "artefact.cbor"}
    assert json.loads((artefact.directory / "config.json").read_text())["given"] == "3.5"
    assert load_artefact(artefact.directory, deep=True) == artefact
    assert find_artefact(tmp_path, tiny) == artefact
    assert not [path for path in (tmp_path / "artefacts").glob(".work-*") if path.is_dir()]
    assert ("measuring", 3, 6) in told
    assert told[-1][0] == "quantizing"


def test_a_failed_one_goes_on_where_it_was(tiny: BaseModel, tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(InvalidModel):
        convert(tiny, tmp_path, Options(), no_progress, ["false"])
    (work_of(tmp_path) / "stop").touch()
    with pytest.raises(InvalidModel, match=r"with status 0: .*the device fell off; see .*conversion.log"):
        convert(tiny, tmp_path, Options(), no_progress, command)
    (work_of(tmp_path) / "stop").unlink()
    assert not list((tmp_path / "artefacts").glob("baf*"))
    artefact = convert(tiny, tmp_path, Options(), no_progress, command)
    assert json.loads((artefact.directory / "config.json").read_text())["began"] == 1


def test_one_that_was_killed_before_its_rename_is_published_without_computing(
    tiny: BaseModel, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: object) -> Artefact:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("commonlore.worker.engine.exllamav2.quantize.publish_artefact", killed)
        with pytest.raises(KeyboardInterrupt):
            convert(tiny, tmp_path, Options(), no_progress, command)
    assert convert(tiny, tmp_path, Options(), no_progress, ["false"]).manifest.reference == tiny.id


def test_other_options_are_other_work(tiny: BaseModel, tmp_path: Path, command: list[str]) -> None:
    first = convert(tiny, tmp_path, Options(4.0), no_progress, command)
    second = convert(tiny, tmp_path, Options(5.0), no_progress, command)
    assert first.id != second.id
    assert second.manifest.precision == "5bpw-h6"


@pytest.mark.parametrize("options", [Options(1.5), Options(9), Options(head_bits=7)])
def test_what_exl2_has_not_is_refused(options: Options) -> None:
    with pytest.raises(ConfigError, match="EXL2 has"):
        check_options(options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could do it")
def test_a_machine_without_a_gpu_says_so(tiny: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="exllamav2 cannot run on this machine"):
        quantize_base(tiny, tmp_path, Options(), no_progress)
    assert not list(tmp_path.iterdir())


def test_the_config_is_spelled_as_exllamav2_reads_it(tmp_path: Path) -> None:
    scaled = {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512,
        }
    }
    window = {"model_type": "mistral", "sliding_window": 1024}
    base = build_tiny(tmp_path, changes=scaled | window)
    config = json.loads(library_config(base))
    assert config["rope_theta"] == 10_000.0
    assert config["rope_scaling"]["rope_type"] == "llama3"
    assert config["rope_scaling"]["factor"] == 8.0
    assert config["max_position_embeddings"] == 1024
    assert "rope_parameters" not in config
    assert "sliding_window" not in config
