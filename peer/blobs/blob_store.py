"""Content on disk, named by its hash. Synchronous: callers on the trio thread go through `trio.to_thread`.

The rules of this file: what stands under a name was verified against it and came there by an atomic rename,
so that a process killed at any moment leaves nothing half-written under a name. Room is made before anything
is written: the least recently used content that is not pinned goes first. Pins last over restarts. Folders:
`content/` and `manifests/` by CID, `partial/` unfinished downloads, `pins/` empty files.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ...protocol.content.blob_names import BlobManifest, describe_blob, open_manifest
from ...protocol.encoding.codec import encode
from ...protocol.errors import ConfigError, NotFound, RemoteProtocolError
from ...protocol.ids import CHUNK_SIZE, Cid, to_cid
from .partial import Partial

PARTIAL_LIFETIME_S = 3 * 86_400
"""Downloads that nobody resumed for this long are removed at the next start."""
COPY_SIZE = 4 * CHUNK_SIZE


class BlobStore:
    """Blobs under one folder, at most `max_bytes` of them.

    Safe to use from several threads of one process.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock = threading.RLock()
        for name in ("content", "manifests", "partial", "pins"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._sizes: OrderedDict[Cid, int] = OrderedDict(self._scan())
        self._used = sum(self._sizes.values())
        self._pins = {Cid(pin.name) for pin in (folder / "pins").iterdir()}
        self._reserved = 0

    def _scan(self) -> Iterator[tuple[Cid, int]]:
        """What is there, the least recently used first; leftovers of interrupted writes are removed."""
        for entry in os.scandir(self.folder / "partial"):
            if time.time() - entry.stat().st_mtime > PARTIAL_LIFETIME_S:
                os.unlink(entry.path)
        found: list[tuple[float, Cid, int]] = []
        for entry in os.scandir(self.folder / "content"):
            try:
                cid = to_cid(entry.name)
            except RemoteProtocolError:
                os.unlink(entry.path)
                continue
            found.append((entry.stat().st_mtime, cid, entry.stat().st_size))
        return ((cid, size) for _, cid, size in sorted(found))

    # ---- reading

    @property
    def used_bytes(self) -> int:
        """Bytes of complete content."""
        return self._used

    def has(self, cid: Cid) -> bool:
        """Whether the complete content is here."""
        with self._lock:
            return cid in self._sizes

    def list(self) -> tuple[Cid, ...]:
        """Every complete content, the least recently used first."""
        with self._lock:
            return tuple(self._sizes)

    def starting_with(self, beginning: bytes) -> tuple[Cid, ...]:
        """The complete content that begins with these bytes."""
        found: list[Cid] = []
        for cid in self.list():
            with suppress(FileNotFoundError), open(self._content(cid), "rb") as file:
                if file.read(len(beginning)) == beginning:
                    found.append(cid)
        return tuple(found)

    def path(self, cid: Cid) -> Path:
        """The file with the content, which is never to be written. Raises NotFound."""
        with self._lock:
            if cid not in self._sizes:
                raise NotFound(f"no content {cid} in {self.folder}; fetch it from a peer that has it")
            self._sizes.move_to_end(cid)
        path = self._content(cid)
        with suppress(FileNotFoundError):
            os.utime(path)
        return path

    def size(self, cid: Cid) -> int:
        """Bytes of the content. Raises NotFound."""
        return self.path(cid).stat().st_size

    def read(self, cid: Cid, max_bytes: int) -> bytes:
        """The whole content. Raises NotFound, RemoteProtocolError above `max_bytes`."""
        if self.size(cid) > max_bytes:
            raise RemoteProtocolError(
                f"content {cid} has {self.size(cid)} bytes; at most {max_bytes} fit here"
            )
        return self.path(cid).read_bytes()

    def manifest(self, cid: Cid) -> BlobManifest | None:
        """The manifest of content larger than a chunk, kept since its first fetch; None when it is not
        here."""
        data = self.manifest_bytes(cid)
        return None if data is None else open_manifest(cid, data)

    def manifest_bytes(self, cid: Cid) -> bytes | None:
        """The manifest as it travels."""
        try:
            return (self.folder / "manifests" / cid).read_bytes()
        except FileNotFoundError:
            return None

    def chunk(self, cid: Cid, index: int) -> bytes:
        """Chunk `index` of complete content; empty behind its end. Raises NotFound."""
        if not index:
            self.path(cid)  # a reader begins: it is in use
        try:
            with open(self._content(cid), "rb") as file:
                return os.pread(file.fileno(), CHUNK_SIZE, index * CHUNK_SIZE)
        except FileNotFoundError:
            raise NotFound(f"no content {cid} here") from None

    # ---- writing

    def put_bytes(self, data: bytes) -> Cid:
        """Keep these bytes and name them. Raises ConfigError when they do not fit."""
        cid, manifest = describe_blob((data,))
        if not self.has(cid):
            self.reserve(len(data))
            try:
                self._adopt(cid, manifest, self._write_aside(data))
            except OSError as wrong:
                raise ConfigError(f"cannot write {self.folder}: {wrong.strerror}; free some space") from wrong
            finally:
                self.release(len(data))
        return cid

    def put_file(self, source: Path) -> Cid:
        """Keep a copy of a file and name it. Raises ConfigError when it does not fit or cannot be read."""
        try:
            size = source.stat().st_size
            self.reserve(size)
            try:
                aside = self._aside()
                cid, manifest = describe_blob(_copy(source, aside))
                self._adopt(cid, manifest, aside)
            finally:
                self.release(size)
        except OSError as wrong:
            raise ConfigError(f"cannot keep {source}: {wrong.strerror}") from wrong
        return cid

    def put_manifest(self, cid: Cid, data: bytes) -> BlobManifest:
        """Keep a verified manifest ahead of its content.

        Raises RemoteProtocolError where it is not `cid`'s, ConfigError when the disk is full.
        """
        manifest = open_manifest(cid, data)
        try:
            os.replace(self._write_aside(data), self.folder / "manifests" / cid)
        except OSError as wrong:
            raise ConfigError(f"cannot write {self.folder}: {wrong.strerror}; free some space") from wrong
        return manifest

    def open_partial(self, cid: Cid, manifest: BlobManifest) -> Partial:
        """A download begun or resumed. Raises ConfigError when the whole would not fit.

        Close it, or `complete` it.
        """
        self.reserve(manifest.size)
        try:
            return Partial(self.folder / "partial" / cid, manifest)
        except OSError as wrong:
            self.release(manifest.size)
            raise ConfigError(f"cannot write {self.folder}: {wrong.strerror}") from wrong

    def close_partial(self, cid: Cid, partial: Partial) -> None:
        """End a download, completed (it stands under its name then) or not (the next one resumes it). One
        that was forgotten meanwhile leaves nothing."""
        complete = partial.close() and partial.path.exists()
        try:
            if complete:
                self._adopt(cid, partial.manifest, partial.path)
                partial.forget()
        finally:
            self.release(partial.manifest.size)

    def pin(self, cid: Cid) -> None:
        """Keep this content, present or to come, whatever the quota says."""
        with self._lock:
            (self.folder / "pins" / cid).touch()
            self._pins.add(cid)

    def is_pinned(self, cid: Cid) -> bool:
        """Whether the quota has no say in it."""
        with self._lock:
            return cid in self._pins

    def unpin(self, cid: Cid) -> None:
        """Let the quota decide again."""
        with self._lock:
            (self.folder / "pins" / cid).unlink(missing_ok=True)
            self._pins.discard(cid)

    def remove(self, cid: Cid) -> None:
        """Forget content and manifest, pinned or not; open files stay readable to those who have them."""
        with self._lock:
            self._used -= self._sizes.pop(cid, 0)
            self._content(cid).unlink(missing_ok=True)
            (self.folder / "manifests" / cid).unlink(missing_ok=True)

    def remove_partial(self, cid: Cid) -> None:
        """Forget what an unfinished download left."""
        for name in (cid, f"{cid}.bits"):
            (self.folder / "partial" / name).unlink(missing_ok=True)

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes to come.

        Raises ConfigError when even removing all that may go is not enough.
        """
        with self._lock:
            pinned = sum(held for cid, held in self._sizes.items() if cid in self._pins)
            if pinned + self._reserved + size > self.max_bytes:
                raise ConfigError(
                    f"{size} bytes do not fit under {self.folder}: of its {self.max_bytes} "
                    f"{pinned + self._reserved} are pinned or under way; raise blob_quota or unpin something"
                )
            self._reserved += size
            for cid in [one for one in self._sizes if one not in self._pins]:
                if self._used + self._reserved <= self.max_bytes:
                    break
                self.remove(cid)

    def release(self, size: int) -> None:
        """The reserved bytes are written (and counted) or will not come."""
        with self._lock:
            self._reserved -= size

    def _adopt(self, cid: Cid, manifest: BlobManifest | None, aside: Path) -> None:
        if manifest is not None and self.manifest_bytes(cid) is None:
            self.put_manifest(cid, encode(manifest))
        size = aside.stat().st_size
        with self._lock:
            os.replace(aside, self._content(cid))
            self._used += size - self._sizes.get(cid, 0)
            self._sizes[cid] = size
            self._sizes.move_to_end(cid)

    def _content(self, cid: Cid) -> Path:
        return self.folder / "content" / cid

    def _aside(self) -> Path:
        return self.folder / "content" / f".{secrets.token_hex(8)}"

    def _write_aside(self, data: bytes) -> Path:
        aside = self._aside()
        aside.write_bytes(data)
        return aside


def _copy(source: Path, target: Path) -> Iterable[bytes]:
    with open(source, "rb") as reading, open(target, "wb") as writing:
        while piece := reading.read(COPY_SIZE):
            writing.write(piece)
            yield piece
