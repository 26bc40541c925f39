"""A download in progress: the data where it belongs, and a bitmap of the chunks that are there.

The rules of this file: only verified chunks are written, data before their bits. After a restart a bit is a
hint: chunks that claim to be there are hashed again, so that neither a crash nor a foreign hand yields wrong
content.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ...protocol.content.blob_names import BlobManifest, check_chunk
from ...protocol.errors import RemoteProtocolError


class Partial:
    """The unfinished content of one manifest at `path`, resumed where an earlier run left it.

    Raises OSError.
    """

    def __init__(self, path: Path, manifest: BlobManifest) -> None:
        self.path = path
        self.manifest = manifest
        self._bits_path = path.with_name(path.name + ".bits")
        self._bits = bytearray(-(-len(manifest.chunks) // 8))
        self._data = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._marks = os.open(self._bits_path, os.O_RDWR | os.O_CREAT, 0o600)
        self._resume()

    @property
    def missing(self) -> list[int]:
        """The chunks that are not there yet."""
        return [index for index in range(len(self.manifest.chunks)) if not self._is_set(index)]

    def write(self, chunks: Sequence[tuple[int, bytes]]) -> None:
        """Write verified chunks, then their bits. Raises OSError."""
        for index, data in chunks:
            os.pwrite(self._data, data, index * self.manifest.chunk_size)
        for index, _ in chunks:
            self._bits[index // 8] |= 1 << index % 8
        os.pwrite(self._marks, self._bits, 0)

    def close(self) -> bool:
        """Close the files; whether all chunks are there. What is written is on its way to the disk then."""
        complete = not self.missing
        if complete:
            os.fdatasync(self._data)
        os.close(self._data)
        os.close(self._marks)
        return complete

    def forget(self) -> None:
        """Remove what is left after the data moved to its name."""
        with suppress(FileNotFoundError):
            self._bits_path.unlink()

    def _resume(self) -> None:
        found = os.pread(self._marks, len(self._bits), 0)
        for index in range(len(self.manifest.chunks)):
            if index // 8 < len(found) and found[index // 8] >> index % 8 & 1 and self._holds(index):
                self._bits[index // 8] |= 1 << index % 8
        os.ftruncate(self._data, self.manifest.size)

    def _holds(self, index: int) -> bool:
        size = self.manifest.chunk_size
        try:
            check_chunk(self.manifest, index, os.pread(self._data, size, index * size)[: self._length(index)])
        except RemoteProtocolError:
            return False
        return True

    def _length(self, index: int) -> int:
        return min(self.manifest.chunk_size, self.manifest.size - index * self.manifest.chunk_size)

    def _is_set(self, index: int) -> bool:
        return bool(self._bits[index // 8] >> index % 8 & 1)
