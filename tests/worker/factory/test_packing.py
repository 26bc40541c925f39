from __future__ import annotations

import pytest
import torch

from commonlore.worker.factory.examples import Encoder, batches
from commonlore.worker.factory.job import LONGEST, Pair, TrainConfig, TrainJob
from commonlore.worker.factory.lora import adapter_parameters, add_adapter, initial_factor, load_model
from commonlore.worker.factory.packing import MOST_TOGETHER, answer_losses, pack, portions
from commonlore.worker.models.reference import BaseModel


def test_packed_losses_and_gradients_are_those_of_the_examples_alone(tiny: BaseModel, job: TrainJob) -> None:
    examples = [Encoder(tiny).pair(row) for row in job.rows[:5]]
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


@pytest.mark.parametrize(("asked", "answered"), [(1, 900), (900, 1), (900, 900), (300, 300)])
def test_a_row_that_is_too_long_is_cut_and_keeps_its_answers_beginning(
    tiny: BaseModel, asked: int, answered: int
) -> None:
    encoder = Encoder(tiny)
    question, answer = " ".join(["why"] * asked), " ".join(["so"] * answered)
    short = encoder.pair(Pair("why", answer))
    found = encoder.pair(Pair(question, answer))
    assert not found.whole
    assert len(found.tokens) == LONGEST
    scored = found.tokens[found.answer_start :]
    assert len(scored) >= min(LONGEST // 2, len(short.tokens) - short.answer_start) > 0
    uncut = tuple(tiny.tokenizer().encode(answer))
    assert scored[: len(uncut)] == uncut[: len(scored)]
    ending = short.tokens[short.answer_start - 8 : short.answer_start]
    assert found.tokens[found.answer_start - 8 : found.answer_start] == ending, "the way to the answer stays"


def test_a_row_that_fits_is_whole(tiny: BaseModel) -> None:
    found = Encoder(tiny).pair(Pair("why", "so"))
    assert found.whole
    assert found.tokens[-1] in tiny.architecture.eos_token_ids


def test_a_batch_of_long_examples_is_learnt_in_portions(tiny: BaseModel) -> None:
    rows = [Encoder(tiny).pair(Pair("why", "so " * 900)) for _ in range(5)]
    together = MOST_TOGETHER // LONGEST
    assert [len(portion) for portion in portions(rows)] == [together, 5 - together]
    assert [row for portion in portions(rows) for row in portion] == rows
