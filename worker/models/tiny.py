"""A tiny random Llama with its own tokenizer: a fake base that is real in every respect but sense.

Rules of this file:
- No network, no randomness, no training: weights come from SHAKE-256 of a seed and the tensor's name, so that
  every machine builds the same base id, in a fraction of a second.
- It exercises what real bases have: several layers, grouped heads, an untied head, byte-level BPE with
  merges, a chat template, an end token. Its greedy answers never end by themselves: the rows of special
  tokens in the head are zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from .architecture import architecture_of, settings_of, tensor_shapes
from .cache import importing, publish, set_name
from .label import Label
from .reference import BaseModel, Material, load_base, write_reference
from .tensor_file import PendingTensor

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 2
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_MERGED = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me"
_GROWN = (
    ("th", "e"),
    ("an", "d"),
    ("in", "g"),
    ("Ġ", "t"),
    ("Ġ", "a"),
    ("Ġt", "he"),
    ("Ġ", "s"),
    ("Ġ", "w"),
    ("Ġ", "c"),
)
_CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}


def build_tiny(cache_dir: Path, seed: int = 0, changes: Mapping[str, object] | None = None) -> BaseModel:
    """The tiny base of this seed, built into the cache if it is not there.

    `changes` override fields of its config.
    """
    material = _material(seed, changes or {})
    with importing(cache_dir) as work:
        directory = work / "base"
        directory.mkdir()
        base = write_reference(material, directory)
        place = publish(directory, cache_dir, base)
        if not changes:
            set_name(cache_dir, f"tiny-{seed}" if seed else "tiny", base)
    return load_base(place)


def _material(seed: int, changes: Mapping[str, object]) -> Material:
    vocabulary, merges = _vocabulary()
    config = _CONFIG | {"vocab_size": len(vocabulary)} | dict(changes)
    special = {"bos_token": SPECIAL_TOKENS[1], "eos_token": SPECIAL_TOKENS[END]}
    family = str(config["model_type"])
    shapes = tensor_shapes(architecture_of(family, settings_of(config, (END,), special)))
    if family == "qwen2":
        shapes |= _query_key_value_biases(shapes)
    return Material(
        label=Label(f"tiny-{seed}" if seed else "tiny", "Apache-2.0"),
        config=config,
        eos_token_ids=(END,),
        special_tokens=special,
        tokenizer_json=_tokenizer_json(vocabulary, merges),
        chat_template=TEMPLATE,
        tensors=[
            PendingTensor(name, "F32", shape, partial(_weights, seed, name, shape))
            for name, shape in shapes.items()
        ],
    )


def _query_key_value_biases(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    names = [name for name in shapes if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]
    return {name.removesuffix("weight") + "bias": (shapes[name][0],) for name in names}


def _weights(seed: int, name: str, shape: tuple[int, ...]) -> bytes:
    count = int(np.prod(shape))
    stream = hashlib.shake_256(f"{seed}/{name}".encode()).digest(2 * count)
    uniform = np.frombuffer(stream, dtype="<u2").astype(np.float32) / 32768.0 - 1.0
    if name.endswith("norm.weight"):
        values = 1.0 + 0.1 * uniform
    else:
        values = uniform * np.float32((3.0 / shape[-1]) ** 0.5 if len(shape) == 2 else 0.1)
    values = values.astype(np.float32).reshape(shape)
    if name == "lm_head.weight":
        values *= 2.0
        values[: len(SPECIAL_TOKENS)] = 0.0
    return values.tobytes()


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    pairs = [(pair[0], pair[1]) for pair in _MERGED.split()]
    merges = pairs + list(_GROWN)
    tokens = [*SPECIAL_TOKENS, *_byte_letters(), *(left + right for left, right in merges)]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges


def _byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte (https://github.com/openai/gpt-2, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _tokenizer_json(vocabulary: Mapping[str, int], merges: list[tuple[str, str]]) -> str:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {"id": index, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for index, token in enumerate(SPECIAL_TOKENS)
    ]
    model = {
        "type": "BPE",
        "vocab": dict(vocabulary),
        "merges": [list(pair) for pair in merges],
        **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
        **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
    }
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": model,
        }
    )
