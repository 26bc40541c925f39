"""kronfluence's EK-FAC (github.com/pomonam/kronfluence): factors on the rows, scores pair by pair."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor
from torch.utils.data import Dataset

from .handed import Cost, mean_nats, padded, take, timed

BATCH = 30


class _Examples(Dataset):  # type: ignore[type-arg]
    def __init__(self, examples: list[tuple[list[int], int]]) -> None:
        self.columns = padded(examples)

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {name: column[place] for name, column in self.columns.items()}


class _LanguageModelling(Task):
    def __init__(self, modules: list[str]) -> None:
        self.modules = modules

    def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> Tensor:
        logits = _logits(model, batch)
        labels = batch["labels"]
        if sample:
            with torch.no_grad():
                drawn = torch.multinomial(logits[:, :-1].softmax(-1).flatten(0, 1), 1).view(len(logits), -1)
            kept = torch.where(labels[:, 1:] != -100, drawn, -100)
            labels = torch.cat([labels[:, :1], kept], dim=1)
        return mean_nats(logits, labels).sum()

    def compute_measurement(self, batch: Any, model: Any) -> Tensor:
        return mean_nats(_logits(model, batch), batch["labels"]).sum()

    def get_influence_tracked_modules(self) -> list[str]:
        return self.modules

    def get_attention_mask(self, batch: Any) -> Tensor:
        mask: Tensor = batch["attention_mask"]
        return mask


def _logits(model: Any, batch: Any) -> Tensor:
    logits: Tensor = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits.float()
    return logits


def main() -> None:
    handed, answer = take()
    torch.manual_seed(handed.seed)
    model = handed.model()
    ends = (".lora_A.default", ".lora_B.default")
    task = _LanguageModelling([name for name, _ in model.named_modules() if name.endswith(ends)])
    model = prepare_model(model, task)
    rows, questions = _Examples(handed.rows), _Examples(handed.questions)
    with tempfile.TemporaryDirectory() as work:
        analyzer = Analyzer("analysis", model, task, cpu=True, output_dir=work, disable_tqdm=True)
        _, fitted = timed(
            lambda: analyzer.fit_all_factors(
                "factors", rows, per_device_batch_size=BATCH, factor_args=FactorArguments(strategy="ekfac")
            )
        )
        _, scored = timed(
            lambda: analyzer.compute_pairwise_scores(
                "scores",
                "factors",
                questions,
                rows,
                per_device_query_batch_size=1,
                per_device_train_batch_size=BATCH,
                score_args=ScoreArguments(),
            )
        )
        scores = analyzer.load_pairwise_scores("scores")["all_modules"]
    # it keeps no index: every query goes through all rows again
    answer(scores.numpy(), Cost(0.0, fitted, scored / len(handed.questions)))


if __name__ == "__main__":
    main()
