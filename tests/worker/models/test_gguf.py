"""A GGUF file of the tiny base, written as llama.cpp's converter writes it, becomes the same base again."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from commonlore.protocol.errors import InvalidModel
from commonlore.protocol.requests.records import ChatMessage
from commonlore.worker.models.importing import import_base
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import SPECIAL_TOKENS, TEMPLATE

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF keeps the rotary halves of query and key rows interleaved."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(base: BaseModel, path: Path) -> None:
    a = base.architecture
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(a.max_positions)
    writer.add_embedding_length(a.hidden)
    writer.add_block_count(a.layers)
    writer.add_feed_forward_length(a.intermediate)
    writer.add_head_count(a.heads)
    writer.add_head_count_kv(a.kv_heads)
    writer.add_layer_norm_rms_eps(a.norm_epsilon)
    writer.add_rope_freq_base(a.rope.theta)
    writer.add_rope_dimension_count(a.head_dim)
    writer.add_vocab_size(a.vocabulary)
    model = json.loads((base.directory / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in load_file(base.directory / "model.safetensors").items():
        heads = a.heads if "q_proj" in name else a.kv_heads if "k_proj" in name else 0
        writer.add_tensor(gguf_name(name), interleave(tensor, heads) if heads else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_becomes_the_base_that_it_is(tiny: BaseModel, cache: Path, tmp_path: Path) -> None:
    write_gguf(tiny, tmp_path / "tiny.gguf")
    base = import_base(str(tmp_path / "tiny.gguf"), cache)
    assert base.manifest.tensors == tiny.manifest.tensors
    assert base.architecture.eos_token_ids == (2,)
    talk = [ChatMessage("user", "the thing and the rest: 12 é")]
    assert base.tokenizer().render(talk) == tiny.tokenizer().render(talk)
    assert base.tokenizer().decode(base.tokenizer().encode_chat(talk)) == tiny.tokenizer().decode(
        tiny.tokenizer().encode_chat(talk)
    )


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + bytes(100), b"nothing of the kind"])
def test_a_broken_gguf_file_is_named(cache: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InvalidModel, match=r"x.gguf cannot be read as a GGUF model"):
        import_base(str(tmp_path / "x.gguf"), cache)
