"""What shape a model of the Llama family has: from a library's config to named settings, and from settings to
numbers.

Rules of this file:
- A base's identity holds *settings*, never a library's own config file: `settings_of` picks the fields that
  change what the model computes, in one spelling, and refuses what the decoder does not implement.
- Everything else is derived from the settings: sizes (`Architecture`), the tensors a base must have, the
  linears an adapter may change, and a config.json for libraries that want one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.content.manifests import Setting
from ...protocol.errors import InvalidModel

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
ATTENTION_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_LINEARS = ("gate_proj", "up_proj", "down_proj")
LINEARS = ATTENTION_LINEARS + MLP_LINEARS
_ROPE_TYPES = ("default", "linear", "llama3")
_HUGGING_FACE_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: `kind` is default, linear or llama3; the factors matter to the last two
    only.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a decoder of the Llama family.

    `max_positions` is in tokens; a sliding window has already cut it.
    """

    family: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_epsilon: float
    max_positions: int
    rope: Rope
    tied: bool
    eos_token_ids: tuple[int, ...]

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    @property
    def normalises_heads(self) -> bool:
        """Qwen3 applies RMSNorm to each query and key head."""
        return self.family == "qwen3"


def settings_of(
    config: Mapping[str, Any], eos_token_ids: Sequence[int], special_tokens: Mapping[str, str]
) -> tuple[Setting, ...]:
    """The settings, sorted by name, that a library's config (as parsed JSON) means. Raises InvalidModel.

    `special_tokens` are what the chat template may name: bos_token, eos_token.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise InvalidModel(f"the model family {family!r} is not supported; supported: {', '.join(FAMILIES)}")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise InvalidModel(f"the activation {config['hidden_act']!r} is not supported; supported: silu")
    values: dict[str, Any] = {name: _integer(config, name) for name in _INTEGERS}
    heads = values["num_attention_heads"]
    values |= {
        "num_key_value_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or values["hidden_size"] // heads),
        "rms_norm_eps": float(config.get("rms_norm_eps", 1e-6)),
        "rope": _rope_of(config),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "attention_bias": bool(config.get("attention_bias", family == "qwen2")),
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "sliding_window": _window_of(config),
        "eos_token_id": sorted(eos_token_ids),
        "special_tokens": dict(special_tokens),
    }
    return tuple(Setting(name, canonical_json(value)) for name, value in sorted(values.items()))


_INTEGERS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, non-ASCII as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _integer(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or not 0 < value < 1 << 31:
        raise InvalidModel(f"the model's config has no usable {name} ({value!r})")
    return value


def _window_of(config: Mapping[str, Any]) -> int | None:
    if not config.get("use_sliding_window", True):
        return None
    window = config.get("sliding_window")
    return int(window) if window else None


def _rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind not in _ROPE_TYPES:
        supported = ", ".join(_ROPE_TYPES)
        raise InvalidModel(f"rotary embedding of type {kind!r} is not supported; supported: {supported}")
    theta = given.get("rope_theta") or config.get("rope_theta") or 10_000.0
    rope: dict[str, Any] = {"rope_theta": float(theta), "rope_type": kind}
    if kind != "default":
        rope["factor"] = float(given["factor"])
    if kind == "llama3":
        rope |= {name: float(given[name]) for name in ("low_freq_factor", "high_freq_factor")}
        rope["original_max_position_embeddings"] = int(given["original_max_position_embeddings"])
    return rope


def architecture_of(family: str, settings: Sequence[Setting]) -> Architecture:
    """The sizes that a manifest's settings mean. Raises InvalidModel."""
    try:
        values = {setting.name: json.loads(setting.value) for setting in settings}
        rope = values["rope"]
        return Architecture(
            family=family,
            vocabulary=values["vocab_size"],
            hidden=values["hidden_size"],
            intermediate=values["intermediate_size"],
            layers=values["num_hidden_layers"],
            heads=values["num_attention_heads"],
            kv_heads=values["num_key_value_heads"],
            head_dim=values["head_dim"],
            norm_epsilon=values["rms_norm_eps"],
            max_positions=min(
                values["max_position_embeddings"],
                values["sliding_window"] or values["max_position_embeddings"],
            ),
            rope=_rope(rope),
            tied=values["tie_word_embeddings"],
            eos_token_ids=tuple(values["eos_token_id"]),
        )
    except (KeyError, ValueError, TypeError) as wrong:
        raise InvalidModel(
            f"the base manifest's settings cannot be read ({wrong!r}); add the base again"
        ) from None


def special_tokens_of(settings: Sequence[Setting]) -> dict[str, str]:
    """What the chat template may name: bos_token, eos_token."""
    found = [setting.value for setting in settings if setting.name == "special_tokens"]
    return {str(name): str(text) for name, text in json.loads(found[0]).items()} if found else {}


def _rope(values: Mapping[str, Any]) -> Rope:
    return Rope(
        theta=values["rope_theta"],
        kind=values["rope_type"],
        factor=values.get("factor", 1.0),
        low_frequency_factor=values.get("low_freq_factor", 1.0),
        high_frequency_factor=values.get("high_freq_factor", 4.0),
        original_positions=values.get("original_max_position_embeddings", 8192),
    )


def config_of(family: str, settings: Sequence[Setting]) -> dict[str, Any]:
    """A Hugging Face config.json with the meaning of the settings: for transformers and peft, never for
    identity.
    """
    values = {setting.name: json.loads(setting.value) for setting in settings}
    rope, eos, _ = values.pop("rope"), values.pop("eos_token_id"), values.pop("special_tokens")
    return values | {
        "architectures": [_HUGGING_FACE_CLASSES[family]],
        "model_type": family,
        "hidden_act": "silu",
        "rope_parameters": rope,
        "eos_token_id": eos[0] if len(eos) == 1 else eos,
        "bos_token_id": None,
        "pad_token_id": None,
        "dtype": "float32",
    }


def linear_shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """(out, in) of each linear of a layer: the targets that an adapter may have."""
    a = architecture
    return {
        "q_proj": (a.query_size, a.hidden),
        "k_proj": (a.kv_size, a.hidden),
        "v_proj": (a.kv_size, a.hidden),
        "o_proj": (a.hidden, a.query_size),
        "gate_proj": (a.intermediate, a.hidden),
        "up_proj": (a.intermediate, a.hidden),
        "down_proj": (a.hidden, a.intermediate),
    }


def block_of(linear: str) -> str:
    """The part of a layer that holds this linear, as tensor names have it."""
    return "self_attn" if linear in ATTENTION_LINEARS else "mlp"


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor that reference weights must hold (biases, where a family has them, come on top)."""
    a = architecture
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (a.vocabulary, a.hidden),
        "model.norm.weight": (a.hidden,),
    }
    if not a.tied:
        shapes["lm_head.weight"] = (a.vocabulary, a.hidden)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (a.hidden,)
        for linear, shape in linear_shapes(a).items():
            shapes[f"{prefix}{block_of(linear)}.{linear}.weight"] = shape
        if a.normalises_heads:
            shapes |= {f"{prefix}self_attn.{head}_norm.weight": (a.head_dim,) for head in "qk"}
    return shapes


def bias_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Bias tensors that reference weights may hold."""
    return {
        f"model.layers.{layer}.{block_of(linear)}.{linear}.bias": (shape[0],)
        for layer in range(architecture.layers)
        for linear, shape in linear_shapes(architecture).items()
    }
