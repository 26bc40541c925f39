"""A base model on this machine: its directory, its manifest, and how one becomes the other.

Rules of this file:
- The base id is the CID of the manifest: tensors by name and digest, settings, tokenizer and template hashes.
  Its name and licence are not in it (see `label`): the same model has the same id whatever it is called.
- A directory holds model.safetensors, tokenizer.json, chat_template.jinja and manifest.cbor; label.json
  beside them is for people, config.json and tokenizer_config.json are derived, for libraries that want them.
- No torch here, and no tokenizer before one is asked for: a base's facts are read without these libraries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...protocol.content.manifests import ArtefactManifest, BaseManifest, Tensor
from ...protocol.encoding.codec import decode, encode, record_cid
from ...protocol.errors import InvalidModel, RemoteProtocolError
from ...protocol.ids import CHUNK_SIZE, Cid, cid_of
from .architecture import (
    Architecture,
    architecture_of,
    bias_shapes,
    canonical_json,
    config_of,
    settings_of,
    special_tokens_of,
    tensor_shapes,
)
from .label import Label, read_label, write_label
from .tensor_file import (
    DTYPE_BYTES,
    Malformed,
    PendingTensor,
    TensorFile,
    open_tensor_file,
    write_tensor_file,
)

if TYPE_CHECKING:
    from .chat import ChatTokenizer

MODEL_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
MANIFEST_FILE = "manifest.cbor"
PRECISIONS = ("fp32", "bf16", "int4")

Progress = Callable[[str, int, int], None]
"""(what is being done, done, total): bytes where there are bytes, else steps."""


def no_progress(_stage: str, _done: int, _total: int) -> None:
    """A Progress that tells nobody."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a source of a base provides.

    `config` is its library's config as JSON; `special_tokens` bos and eos texts.
    """

    label: Label
    config: Mapping[str, Any]
    eos_token_ids: tuple[int, ...]
    special_tokens: Mapping[str, str]
    tokenizer_json: str
    chat_template: str
    tensors: Sequence[PendingTensor]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base in the cache. `id` is the reference's CID."""

    id: Cid
    directory: Path
    manifest: BaseManifest
    architecture: Architecture
    label: Label

    def tokenizer(self) -> ChatTokenizer:
        """Its tokenizer and chat template. Raises InvalidModel."""
        from .chat import ChatTokenizer

        return ChatTokenizer.load(self.directory, special_tokens_of(self.manifest.settings))

    def weights(self) -> TensorFile:
        """Its reference weights. Raises InvalidModel."""
        return _open_weights(self.directory)


# ---- writing


def write_reference(material: Material, directory: Path, progress: Progress = no_progress) -> Cid:
    """Fill an empty directory with the canonical form of `material` and return its id.

    Raises InvalidModel.
    """
    settings = settings_of(material.config, material.eos_token_ids, material.special_tokens)
    family = str(material.config["model_type"])
    tensors = _select(material.tensors, architecture_of(family, settings))
    tokenizer = _canonical_tokenizer(material.tokenizer_json)
    manifest = BaseManifest(
        family=family,
        settings=settings,
        tensors=_write_tensors(directory / MODEL_FILE, tensors, progress),
        tokenizer=hashlib.sha256(tokenizer).digest(),
        chat_template=hashlib.sha256(material.chat_template.encode()).digest(),
    )
    (directory / TOKENIZER_FILE).write_bytes(tokenizer)
    (directory / TEMPLATE_FILE).write_bytes(material.chat_template.encode())
    (directory / MANIFEST_FILE).write_bytes(encode(manifest))
    write_label(directory, material.label)
    _write_library_files(directory, manifest)
    return record_cid(manifest)


def _select(tensors: Sequence[PendingTensor], architecture: Architecture) -> list[PendingTensor]:
    """The tensors that belong to a base of this architecture, checked against it."""
    required, optional = tensor_shapes(architecture), bias_shapes(architecture)
    found = {tensor.name: tensor for tensor in tensors if not _is_derived(tensor.name, architecture)}
    for name in required.keys() - found.keys():
        raise InvalidModel(
            f"the model lacks the tensor {name}; is it a complete {architecture.family} checkpoint?"
        )
    for name, tensor in found.items():
        expected = required.get(name) or optional.get(name)
        if expected is None:
            raise InvalidModel(
                f"the model holds an unexpected tensor {name}; only plain text decoders are supported"
            )
        if tensor.shape != expected:
            raise InvalidModel(f"the tensor {name} has the shape {tensor.shape}; its config says {expected}")
        if tensor.dtype not in DTYPE_BYTES:
            raise InvalidModel(
                f"the tensor {name} is stored as {tensor.dtype}; import the unquantised model instead"
            )
    return list(found.values())


def _is_derived(name: str, architecture: Architecture) -> bool:
    return name.endswith("rotary_emb.inv_freq") or (architecture.tied and name == "lm_head.weight")


def _write_tensors(path: Path, tensors: Sequence[PendingTensor], progress: Progress) -> tuple[Tensor, ...]:
    total, done = sum(tensor.size for tensor in tensors), 0

    def wrote(size: int) -> None:
        nonlocal done
        done += size
        progress("writing weights", done, total)

    return write_tensor_file(path, tensors, wrote)


def _canonical_tokenizer(text: str) -> bytes:
    """tokenizer.json with sorted keys, without what a library's last use left in it (truncation, padding)."""
    try:
        parsed = json.loads(text)
        return canonical_json(parsed | {"truncation": None, "padding": None}).encode()
    except (ValueError, TypeError) as wrong:
        raise InvalidModel(f"the tokenizer.json cannot be read: {wrong}") from None


def _write_library_files(directory: Path, manifest: BaseManifest) -> None:
    config = config_of(manifest.family, manifest.settings)
    tokenizer = special_tokens_of(manifest.settings) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }
    (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1, sort_keys=True))


# ---- reading


def load_base(directory: Path, *, deep: bool = False) -> BaseModel:
    """A base's directory, checked against its manifest; `deep` also hashes every tensor.

    Raises InvalidModel.
    """
    try:
        raw = (directory / MANIFEST_FILE).read_bytes()
        manifest = decode(BaseManifest, raw, CHUNK_SIZE)
    except (OSError, RemoteProtocolError) as wrong:
        raise InvalidModel(
            f"{directory} is not an imported base: {wrong}; run `commonlore base add`"
        ) from None
    base_id, architecture = cid_of(raw), architecture_of(manifest.family, manifest.settings)
    label = read_label(directory) or Label(base_id)
    base = BaseModel(base_id, directory, manifest, architecture, label)
    _check_text_files(base)
    _check_weights(base)
    if deep:
        _check_digests(base)
    return base


def _check_text_files(base: BaseModel) -> None:
    for name, digest in (
        (TOKENIZER_FILE, base.manifest.tokenizer),
        (TEMPLATE_FILE, base.manifest.chat_template),
    ):
        try:
            raw = (base.directory / name).read_bytes()
        except OSError as wrong:
            raise _damaged(base.directory, f"{name}: {wrong.strerror}") from None
        if hashlib.sha256(raw).digest() != digest:
            raise _damaged(base.directory, f"{name} is not the one its manifest names")


def _check_weights(base: BaseModel) -> None:
    found = {name: (span.dtype, span.shape) for name, span in base.weights().tensors.items()}
    if found != {tensor.name: (tensor.dtype, tensor.shape) for tensor in base.manifest.tensors}:
        raise _damaged(base.directory, f"{MODEL_FILE} does not hold the tensors that its manifest names")


def _check_digests(base: BaseModel) -> None:
    digests = {tensor.name: tensor.digest for tensor in base.manifest.tensors}
    try:
        for name, raw in base.weights().read(digests):
            if hashlib.sha256(raw).digest() != digests[name]:
                raise _damaged(base.directory, f"{name} in {MODEL_FILE} is not what its manifest names")
    except Malformed as wrong:
        raise _damaged(base.directory, f"{MODEL_FILE} {wrong}") from None


def _open_weights(directory: Path) -> TensorFile:
    try:
        return open_tensor_file(directory / MODEL_FILE)
    except (Malformed, OSError) as wrong:
        raise _damaged(directory, f"{MODEL_FILE} {wrong}") from None


def _damaged(directory: Path, what: str) -> InvalidModel:
    return InvalidModel(
        f"the base in {directory} is damaged: {what}; delete the directory and add the base again"
    )


def artefact_for(base: BaseModel, precision: str) -> ArtefactManifest:
    """What a worker that loads `base` at `precision` (fp32, bf16, int4) really runs. Raises InvalidModel."""
    if precision not in PRECISIONS:
        raise InvalidModel(
            f"the precision {precision!r} is not supported; supported: {', '.join(PRECISIONS)}"
        )
    return ArtefactManifest(reference=base.id, format="torch", precision=precision)
