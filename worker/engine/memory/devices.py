"""Where an engine computes: on the CPU, or on a CUDA GPU."""

from __future__ import annotations

import torch

from ....protocol.errors import ConfigError, MissingDependency

CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda")


def choose_device(wanted: str) -> torch.device:
    """`auto` is a GPU where torch finds one, else the CPU.

    Raises MissingDependency where `cuda` is wanted and there is none, ConfigError for other words.
    """
    if wanted not in DEVICES:
        raise ConfigError(f"the device {wanted!r} is unknown; choose one of {', '.join(DEVICES)}")
    if wanted == "cpu":
        return CPU
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "auto":
        return CPU
    build = f"a build for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
    raise MissingDependency(
        f"the device is cuda, and torch {torch.__version__} ({build}) finds no GPU: "
        "install a CUDA build of torch and the NVIDIA driver, or set device to auto or cpu"
    )
