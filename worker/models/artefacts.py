"""Quantised bases on this machine: `<cache>/artefacts/<artefact id>/`, a library's files and their manifest.

Rules of this file:
- An artefact names its reference base and the digest of every file that is loaded, in the order of their
  names. Quantising twice gives two artefacts, since calibration on a GPU is not bit for bit repeatable.
- A directory appears whole or not at all: it is filled beside its place and renamed into it.
- No torch here: a node learns which artefact it serves without loading a tensor library.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ...protocol.content.manifests import ArtefactManifest
from ...protocol.encoding.codec import decode, encode, record_cid
from ...protocol.errors import InvalidModel, NotFound, RemoteProtocolError
from ...protocol.ids import CHUNK_SIZE, Cid, cid_of, to_cid
from .cache import sync_directory
from .reference import BaseModel

log = logging.getLogger("commonlore.worker.models")
MANIFEST_FILE = "artefact.cbor"
EXL2 = "exl2"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A quantised base in the cache. `id` is its manifest's CID."""

    id: Cid
    directory: Path
    manifest: ArtefactManifest


def artefacts_dir(cache_dir: Path) -> Path:
    """Where artefacts are kept."""
    return cache_dir / "artefacts"


def loaded_files(directory: Path) -> list[Path]:
    """The files that count: config.json and the weights, by name."""
    return sorted([*directory.glob("config.json"), *directory.glob("*.safetensors")])


def publish_artefact(directory: Path, cache_dir: Path, base: Cid, precision: str) -> Artefact:
    """Describe what lies in `directory` as an EXL2 artefact of `base` and move it to its place."""
    digests = tuple(_digest(path) for path in loaded_files(directory))
    manifest = ArtefactManifest(base, EXL2, precision, digests)
    (directory / MANIFEST_FILE).write_bytes(encode(manifest))
    place = artefacts_dir(cache_dir) / record_cid(manifest)
    if not place.exists():
        sync_directory(directory)
        os.rename(directory, place)
    return load_artefact(place)


def load_artefact(directory: Path, *, deep: bool = False) -> Artefact:
    """An artefact's directory, checked against its manifest; `deep` also hashes its files.

    Raises InvalidModel.
    """
    try:
        raw = (directory / MANIFEST_FILE).read_bytes()
        manifest = decode(ArtefactManifest, raw, CHUNK_SIZE)
    except (OSError, RemoteProtocolError) as wrong:
        raise InvalidModel(
            f"{directory} is not an artefact: {wrong}; run `commonlore base quantize`"
        ) from None
    files = loaded_files(directory)
    whole = len(files) == len(manifest.files)
    if not whole or (deep and tuple(_digest(path) for path in files) != manifest.files):
        raise InvalidModel(
            f"the artefact in {directory} is damaged: its files are not those its manifest names; "
            "delete the directory and run `commonlore base quantize` again"
        )
    return Artefact(cid_of(raw), directory, manifest)


def list_artefacts(cache_dir: Path, base: Cid) -> list[Artefact]:
    """The artefacts of a base on this machine; one that is damaged is told of and left out."""
    places = sorted(artefacts_dir(cache_dir).glob(f"*/{MANIFEST_FILE}"))
    found = [_load_whole(place.parent) for place in places if not place.parent.name.startswith(".")]
    return [artefact for artefact in found if artefact is not None and artefact.manifest.reference == base]


def _load_whole(directory: Path) -> Artefact | None:
    try:
        return load_artefact(directory)
    except InvalidModel as wrong:
        log.warning("%s", wrong)
        return None


def find_artefact(cache_dir: Path, base: BaseModel, wanted: str = "") -> Artefact:
    """The artefact of a base by its id; without one, the only one there is.

    Raises NotFound, which says what to run or choose.
    """
    found = list_artefacts(cache_dir, base.id)
    if wanted:
        found = [artefact for artefact in found if artefact.id == _id(wanted)]
    if len(found) == 1:
        return found[0]
    name = base.label.name
    if not found:
        which = f"artefact {wanted}" if wanted else "EXL2 artefact"
        raise NotFound(
            f"the base {name!r} has no {which} on this machine; run `commonlore base quantize {name}`"
        )
    choices = ", ".join(f"{artefact.id} ({artefact.manifest.precision})" for artefact in found)
    raise NotFound(f"the base {name!r} has several EXL2 artefacts; set artefact to one of: {choices}")


def _id(text: str) -> Cid:
    try:
        return to_cid(text)
    except RemoteProtocolError:
        raise NotFound(f"artefact {text!r} is not an id; `commonlore base quantize` prints it") from None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
