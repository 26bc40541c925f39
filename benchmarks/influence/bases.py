"""The tiny bases that adapters are trained on: a Llama of a million parameters that has read the
interpreter's manual, as a reference base in a folder.

Rules of this file: a base is a function of its number and the interpreter's own texts; it is made once and
kept.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from commonlore.worker.models.label import Label
from commonlore.worker.models.reference import BaseModel, Material, load_base, write_reference
from commonlore.worker.models.tensor_file import PendingTensor

from ..child import note
from .texts import reading

VOCABULARY, LENGTH, STEPS, BATCH, RATE = 2_048, 48, 500, 24, 2e-3
START, END = 1, 2
_SPECIAL = ("<pad>", "<s>", "</s>")
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
_CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
}


def train_tokenizer(folder: Path) -> Tokenizer:
    """Byte-level BPE on the reading; kept."""
    path = folder / "tokenizer.json"
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(_SPECIAL),
            initial_alphabet=alphabet,
            show_progress=False,
        )
        tokenizer.train_from_iterator(reading(), trainer)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(path))
    return Tokenizer.from_file(str(path))


def tiny_base(folder: Path, number: int) -> BaseModel:
    """The base of this number, made where it is missing."""
    place = folder / f"base-{number}"
    if not place.exists():
        note(f"reading for the tiny base {number}")
        tokenizer = train_tokenizer(folder)
        partly = folder / f"base-{number}.partial"
        partly.mkdir(parents=True)
        write_reference(_material(number, tokenizer, _read(number, tokenizer)), partly)
        partly.rename(place)
    return load_base(place)


def _read(number: int, tokenizer: Tokenizer) -> dict[str, torch.Tensor]:
    """Weights after STEPS steps of next-token prediction."""
    stream = torch.tensor([i for text in reading() for i in (START, *tokenizer.encode(text).ids)])
    torch.manual_seed(number)
    model = LlamaForCausalLM(LlamaConfig(**_CONFIG, attn_implementation="sdpa"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    rng = np.random.default_rng(number)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 - step / STEPS)
        starts = rng.integers(0, len(stream) - LENGTH, BATCH)
        tokens = torch.stack([stream[start : start + LENGTH] for start in starts])
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _material(number: int, tokenizer: Tokenizer, weights: dict[str, torch.Tensor]) -> Material:
    return Material(
        label=Label(f"tiny-reader-{number}", "Apache-2.0"),
        config={"model_type": "llama", **_CONFIG},
        eos_token_ids=(END,),
        special_tokens={"bos_token": _SPECIAL[START], "eos_token": _SPECIAL[END]},
        tokenizer_json=tokenizer.to_str(),
        chat_template=_TEMPLATE,
        tensors=[
            PendingTensor(name, "F32", tuple(tensor.shape), partial(_bytes, tensor))
            for name, tensor in weights.items()
        ],
    )


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().numpy().tobytes())
