"""What this engine needs of a machine, asked before anything heavy is imported.

exllamav2 compiles its CUDA extension when it is first imported, and on a machine that cannot, it ends in a
page of traceback; here it is one sentence that names everything missing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from ....protocol.errors import MissingDependency

PACKAGE = "exllamav2"
EXTENSION = "exllamav2_ext"
VERSION = "0.3.2"
"""The only one: the classes in `rules` and `mixed` are written against its insides."""


def check_requirements() -> None:
    """Raises MissingDependency, naming all that is missing and the remedy."""
    missing = [*_missing_device(), *_missing_package(), *_missing_compilers()]
    if missing:
        raise MissingDependency(
            f"exllamav2 cannot run on this machine: {'; '.join(missing)}. Set engine = torch, or on a "
            "machine with an NVIDIA GPU install a CUDA build of torch, the CUDA toolkit and "
            "'commonlore[exl2]'"
        )


def _missing_device() -> Iterator[str]:
    if importlib.util.find_spec("torch") is None:
        yield "torch is not installed"
        return
    import torch

    if torch.version.cuda is None:
        yield f"no CUDA device, and torch {torch.__version__} is built without CUDA"
    elif not torch.cuda.is_available():
        yield f"torch {torch.__version__} finds no CUDA device"


def _missing_package() -> Iterator[str]:
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        yield f"the package {PACKAGE} {VERSION} is not installed"
        return
    if found.partition("+")[0] != VERSION:  # a wheel's build is named after the plus
        yield f"{PACKAGE} {found} is installed, and only {VERSION} is supported"


def _missing_compilers() -> Iterator[str]:
    """Nothing when a compiled extension is installed beside the package."""
    if importlib.util.find_spec(EXTENSION) is not None:
        return
    absent = [name for name, there in _build_tools().items() if not there]
    if absent:
        yield f"its extension cannot be compiled without {', '.join(absent)}"


def _build_tools() -> dict[str, bool]:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=os.path.join(home, "bin"))
    compiler = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    return {"nvcc": bool(nvcc), "a C++ compiler": bool(compiler), "ninja": bool(shutil.which("ninja"))}
