"""dattri's LoGra (github.com/TRAIS-Lab/dattri): gradients of each matrix projected from both sides, and the
inverse of their empirical Fisher information."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace
from typing import Any

import torch
from dattri.algorithm.logra import LoGraAttributor
from dattri.task import AttributionTask
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .handed import Cost, mean_nats, padded, take, timed

WIDTH = 256
"""Of one matrix's projected gradient: its square root from each side. A rank of 8 has no more to give."""
BATCH = 30


class _Examples(Dataset):  # type: ignore[type-arg]
    def __init__(self, examples: list[tuple[list[int], int]]) -> None:
        self.columns = padded(examples)

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {name: column[place] for name, column in self.columns.items()}


class _WithLoss(nn.Module):
    """The model, its loss as dattri wants to find it: the sum of examples' means."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
        logits = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
        return SimpleNamespace(loss=mean_nats(logits, labels).sum())


def _loss(model: Any, batch: Any, _device: str) -> Tensor:
    loss: Tensor = model(**batch).loss
    return loss


def main() -> None:
    handed, answer = take()
    torch.manual_seed(handed.seed)
    model = _WithLoss(handed.model())
    ends = (".lora_A.default", ".lora_B.default")
    layers = [name for name, _ in model.named_modules() if name.endswith(ends)]
    task = AttributionTask(loss_func=_loss, model=model, checkpoints=model.state_dict())
    rows = DataLoader(_Examples(handed.rows), batch_size=BATCH, shuffle=False)
    questions = DataLoader(_Examples(handed.questions), batch_size=1, shuffle=False)
    with tempfile.TemporaryDirectory() as notes:  # it writes down there which batch held what
        attributor = LoGraAttributor(
            task, layer_names=layers, hessian="eFIM", proj_dim=WIDTH, offload="cpu", cache_dir=notes
        )
        _, cached = timed(lambda: attributor.cache(rows))
        scores, asked = timed(lambda: attributor.attribute(rows, questions))
    size = 4.0 * float(attributor.total_proj_dim)
    answer(scores.T.detach().numpy(), Cost(size, cached, asked / len(handed.questions)))


if __name__ == "__main__":
    main()
