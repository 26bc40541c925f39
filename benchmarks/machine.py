"""What a result was measured on: figures without it say nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import psutil

MEASURED = ("commonlore", "torch", "libp2p", "trio", "aiosqlite", "cbor2", "coincurve")


def describe_machine() -> dict[str, object]:
    """Processor, memory and system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python and of what does the work."""
    return {"python": platform.python_version(), **{name: version(name) for name in MEASURED}}


def load_average() -> float:
    """Processes that ran or waited to run, in the last minute. Above the number of cores, wall times lie."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
