from __future__ import annotations

import pytest
import torch

from commonlore.protocol.errors import ConfigError
from commonlore.worker.factory.examples import Encoder, batches, encode_pairs
from commonlore.worker.factory.job import Pair, TrainConfig, TrainJob
from commonlore.worker.factory.lora import adapter_parameters, add_adapter, initial_factor, load_model
from commonlore.worker.factory.packing import answer_losses, pack
from commonlore.worker.models.reference import BaseModel


def test_packed_losses_and_gradients_are_those_of_the_examples_alone(tiny: BaseModel, job: TrainJob) -> None:
    examples = encode_pairs(Encoder(tiny), job.rows[:5], 512)
    model = load_model(tiny, torch.float32)
    add_adapter(model, TrainConfig())
    parameters = adapter_parameters(model)
    for name, parameter in parameters.items():
        parameter.data += 0.05 * initial_factor(3, name.replace("lora_B", "lora_A"), tuple(parameter.shape))

    def gradients(batches_of: list[list[object]]) -> tuple[torch.Tensor, torch.Tensor]:
        for parameter in parameters.values():
            parameter.grad = None
        losses = torch.cat([answer_losses(model, pack(batch), torch.float32) for batch in batches_of])  # type: ignore[arg-type]
        losses.sum().backward()
        return losses.detach(), torch.cat([parameter.grad.flatten() for parameter in parameters.values()])

    packed, alone = gradients([list(examples)]), gradients([[example] for example in examples])
    assert pack(examples).tokens.shape[1] < sum(len(example.tokens) for example in examples)
    torch.testing.assert_close(packed[0], alone[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[1], alone[1], rtol=1e-3, atol=1e-4 * alone[1].abs().max().item())


def test_every_epoch_meets_every_row_once_and_resumes_anywhere() -> None:
    steps = batches(seed=5, count=10, batch_size=4)
    met = [next(steps) for _ in range(10)]
    flat = [row for batch in met for row in batch]
    for epoch in range(4):
        assert sorted(flat[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert flat[:10] != flat[10:20]
    resumed = batches(seed=5, count=10, batch_size=4, first_step=7)
    assert [next(resumed) for _ in range(3)] == met[7:]


def test_a_row_that_is_too_long_is_named(tiny: BaseModel) -> None:
    pairs = [Pair("short?", "Yes."), Pair("long?", "word " * 100)]
    with pytest.raises(ConfigError, match=r"row 2 has \d+ tokens; this job takes 60"):
        encode_pairs(Encoder(tiny), pairs, 60)
