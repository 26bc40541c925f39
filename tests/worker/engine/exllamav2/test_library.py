"""exllamav2 0.3.2 has every class, attribute and signature that is used of it."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
from typing import Any

import pytest
import torch

from commonlore.worker.engine.exllamav2.fake import FakeExtension
from commonlore.worker.engine.exllamav2.library import PAGE_SIZE, Library
from commonlore.worker.engine.exllamav2.pages import salted_hash
from commonlore.worker.engine.exllamav2.rules import GeneratorRules, JobRules

pytestmark = pytest.mark.usefixtures("library")


def module(name: str) -> Any:
    return importlib.import_module(f"exllamav2{name}")


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    "method",
    ["prepare_for_queue", "allocate_pages", "prefill", "is_prefill_done", "receive_logits", "receive_sample"],
)
def test_a_jobs_overridden_methods(library: Library, method: str) -> None:
    assert parameters(getattr(JobRules, method)) == parameters(getattr(library.job, method))


@pytest.mark.parametrize("method", ["iterate", "iterate_gen"])
def test_a_generators_overridden_methods(library: Library, method: str) -> None:
    assert parameters(getattr(GeneratorRules, method)) == parameters(getattr(library.generator, method))


def test_methods_and_settings_that_are_called(library: Library) -> None:
    assert parameters(library.generator.enqueue) == ["self", "job"]
    assert parameters(library.generator.cancel) == ["self", "job"]
    assert {"input_ids", "max_new_tokens"} <= set(parameters(library.job.__init__))
    settings = {"model", "cache", "tokenizer", "max_batch_size", "max_chunk_size", "max_q_size"}
    settings |= {"max_sampling_threads", "filter_background_eval", "paged"}
    assert settings <= set(parameters(library.generator.__init__))
    assert {"model", "batch_size", "max_seq_len"} <= set(parameters(library.cache.__init__))
    assert callable(library.model.update_loras)
    assert callable(library.config.arch_compat_overrides)


def test_a_page_is_hashed_by_one_function_of_tokens_and_predecessor(library: Library) -> None:
    dynamic = module(".generator.dynamic")
    assert dynamic._tensor_hash_checksum is salted_hash
    assert len(parameters(dynamic._tensor_blake2b_checksum)) == len(parameters(salted_hash)) == 2
    assert dynamic.PAGED_PAGE_SIZE == PAGE_SIZE
    source = inspect.getsource(library.job)
    assert source.count("_tensor_hash_checksum(page_ids, ") == 2  # the prompt's and the answer's pages


def test_pages_have_what_is_read_of_them() -> None:
    page = module(".generator.dynamic").CachePage
    assert {"page_index", "phash", "prev_hash", "ref_count", "kv_position"} <= page.__annotations__.keys()
    assert callable(page.clear)
    assert {"kv_position", "allocated_pages"} <= module(
        ".generator.dynamic"
    ).ExLlamaV2DynamicJob.Sequence.__annotations__.keys()


def test_linears_and_blocks_have_what_is_used_of_them() -> None:
    linear = module(".linear").ExLlamaV2Linear
    assert parameters(linear.forward)[1] == "hidden_states"
    assert "loras" in parameters(linear.forward)
    assert {
        "in_features",
        "out_features",
        "lora_a_tensors",
        "lora_b_tensors",
    } <= linear.__annotations__.keys()
    for block in (module(".attn").ExLlamaV2Attention, module(".mlp").ExLlamaV2MLP):
        assert "q_handle" in block.__annotations__
        assert "loras" in parameters(block.forward)
    assert "self.q_handle is not None" in inspect.getsource(module(".attn").ExLlamaV2Attention.forward_paged)
    assert "self.q_handle is None" in inspect.getsource(module(".mlp").ExLlamaV2MLP.forward)


def test_paged_attention_is_asked_for_with_what_the_face_takes() -> None:
    source = inspect.getsource(module(".attn").ExLlamaV2Attention.forward_paged)
    call = source[source.index("flash_attn_with_kvcache(") :]
    for name in ("q = q", "k = k", "k_cache = ", "cache_seqlens = ", "block_table = ", "softmax_scale = "):
        assert name in call
    assert module(".attn").has_flash_attn_with_paged
    assert not module(".attn").has_flash_attn_with_window or torch.cuda.is_available()


def test_the_inside_of_an_mlp_is_reordered_by_the_order_of_downs_rows() -> None:
    source = inspect.getsource(module(".mlp").ExLlamaV2MLP.load)
    assert "down_map = self.down_proj.load(device_context = device_context, unmap = True)" in source
    assert source.count("output_map = down_map") == 2
    assert 'torch.argsort(qtensors["q_invperm"])' in inspect.getsource(module(".module").ExLlamaV2Module)


def test_the_fake_extension_has_only_functions_of_the_real_one() -> None:
    bindings = (
        importlib.resources.files("exllamav2").joinpath("exllamav2_ext", "ext_bindings.cpp").read_text()
    )
    for name in dir(FakeExtension):
        if not name.startswith("_"):
            assert f'm.def("{name}"' in bindings, name


def test_the_conversions_options_exist() -> None:
    source = (
        importlib.resources.files("exllamav2").joinpath("conversion", "convert_exl2.py").read_text("utf-8")
    )
    for option in ("-i", "-o", "-cf", "-b", "-hb", "-r", "-mr", "-l", "-ml"):
        assert f'add_argument("{option}"' in source
    assert '"job_new.json"' in source
    assert 'job["progress"] = "finished"' in source
