"""What is said where there can be no compiled library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commonlore.worker.engine.native import library
from commonlore.worker.engine.native.library import Unavailable, load_library


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("COMMONLORE_CACHE", str(tmp_path / "cache"))
    load_library.cache_clear()
    yield
    load_library.cache_clear()


def test_it_is_built_once(tmp_path: Path) -> None:
    load_library()
    (built,) = (tmp_path / "cache" / "native").iterdir()
    before = built.stat().st_mtime_ns
    load_library.cache_clear()
    load_library()
    assert built.stat().st_mtime_ns == before


def test_another_source_is_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_library()
    load_library.cache_clear()
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-DANOTHER"))
    load_library()
    assert len(list((tmp_path / "cache" / "native").iterdir())) == 2


def test_a_processor_that_lacks_instructions_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "processor_flags", lambda: frozenset({"avx512f", "avx2"}))
    with pytest.raises(Unavailable, match="lacks avx512bw, avx512vl, avx512dq, avx512_bf16"):
        load_library()


def test_no_compiler_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Unavailable, match=r"install g\+\+, or set CXX"):
        load_library()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho no such flag >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(Unavailable, match="refuses the source: no such flag"):
        load_library()
    assert not list((tmp_path / "cache" / "native").iterdir()), "a failed build leaves nothing"


def test_a_cache_that_cannot_be_written_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="cannot be kept or loaded"):
        load_library()


def test_a_file_that_is_no_library_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    out = 'while [ $# -gt 1 ]; do [ "$1" = -o ] && echo no library > "$2"; shift; done'
    compiler.write_text(f"#!/bin/sh\n{out}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(Unavailable, match="cannot be kept or loaded"):
        load_library()
