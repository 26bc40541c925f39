"""The compiled library: built once for a source, compiler and machine, kept in the cache, loaded with ctypes.

Rules of this file:
- Nothing is compiled on a processor without AVX-512 BF16, and nothing where no C++ compiler is at hand:
  `Unavailable` says which, and the engine goes on with torch alone.
- A build is a function of the source, the compiler's version and the flags; it appears under its name whole
  or not at all, so that processes may build side by side.
- A compiler that accepts the file compiles it in 2 s; torch's own extension loader needs its headers (tens of
  seconds) and ninja, and ties the result to one version of torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ...models.cache import default_cache_dir
from .structures import ALL

SOURCES = ("forward.cpp", "linear.h", "attention.h", "lora.h", "pack.h", "simd.h")
FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-ffp-contract=off"),
    *(
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512dq",
        "-mavx512bf16",
        "-mf16c",
        "-mfma",
        "-Wno-maybe-uninitialized",
    ),
)
NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16")
BUILD_PATIENCE_S = 300.0
SWITCH = "COMMONLORE_NATIVE"
"""Set to 0, the environment variable that makes engines do without the compiled library."""


class Unavailable(Exception):
    """Why this machine has no compiled library: a clause."""


class NoCompiler(Unavailable):
    """Only a compiler is missing, which can be installed."""


@cache
def load_library() -> ctypes.CDLL:
    """The library, compiled first where that was not done before. Raises Unavailable."""
    library = load_compiled([Path(__file__).parent / name for name in SOURCES])
    _declare(library)
    _check_sizes(library)
    return library


def load_compiled(sources: Sequence[Path]) -> ctypes.CDLL:
    """The library of these files, the first of which includes the others; compiled where that was not done
    before. Raises Unavailable.
    """
    try:
        return ctypes.CDLL(str(_built(find_compiler(), sources)))
    except OSError as wrong:
        raise Unavailable(f"the compiled library cannot be kept or loaded: {wrong}") from None


def find_compiler() -> str:
    """What compiles the library on this machine. Raises Unavailable, NoCompiler."""
    if os.environ.get(SWITCH) == "0":
        raise Unavailable(f"{SWITCH} is 0")
    _check_processor()
    named = os.environ.get("CXX")
    found = shutil.which(named) if named else shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise NoCompiler("no C++ compiler is at hand: install g++, or set CXX")
    return found


def _check_processor() -> None:
    flags = processor_flags()
    missing = [flag for flag in NEEDED if flag not in flags]
    if missing:
        raise Unavailable(f"this processor lacks {', '.join(missing)}")


def processor_flags() -> frozenset[str]:
    """What Linux says that the first processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    listed = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(listed.partition(":")[2].split())


def _built(compiler: str, sources: Sequence[Path]) -> Path:
    version = _run([compiler, "--version"]).stdout
    key = hashlib.blake2b("\0".join((compiler, version, *FLAGS)).encode(), digest_size=16)
    for source in sources:
        key.update(source.read_bytes())
    target = default_cache_dir() / "native" / f"{sources[0].stem}-{key.hexdigest()}.so"
    if not target.exists():
        _build(compiler, sources[0], target)
    return target


def _build(compiler: str, source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        _run([compiler, *FLAGS, "-o", str(made), str(source)])
        made.replace(target)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as wrong:
        raise Unavailable(f"the compiler {command[0]} does not run: {wrong}") from None
    if done.returncode != 0:
        raise Unavailable(f"the compiler {command[0]} refuses the source: {done.stderr.strip()[-400:]}")
    return done


def _declare(library: ctypes.CDLL) -> None:
    library.commonlore_forward.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    library.commonlore_forward.restype = None
    library.commonlore_pack.argtypes = (ctypes.c_void_p,)
    library.commonlore_pack.restype = None
    library.commonlore_sizes.argtypes = (ctypes.c_void_p,)
    library.commonlore_sizes.restype = None
    library.commonlore_multiply.argtypes = (
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32),
    )
    library.commonlore_multiply.restype = None


def _check_sizes(library: ctypes.CDLL) -> None:
    sizes = (ctypes.c_int64 * len(ALL))()
    library.commonlore_sizes(sizes)
    wrong = [one.__name__ for one, size in zip(ALL, sizes, strict=True) if ctypes.sizeof(one) != size]
    if wrong:
        raise Unavailable(f"the library's structures differ from this package's: {', '.join(wrong)}")
