"""What a base is called here, and under which licence it came: for people.

It stands beside the manifest and not in it, so that the same model has the same id whatever it is called.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

LABEL_FILE = "label.json"
MAX_NAME = 64
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Label:
    """A base's name on this machine, and its source's licence."""

    name: str
    licence: str = UNKNOWN


def read_label(directory: Path) -> Label | None:
    """The label in a base's directory; None where there is none that can be read."""
    try:
        fields = json.loads((directory / LABEL_FILE).read_text(encoding="utf-8"))
        name, licence = fields["name"], fields["licence"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Label(name, licence) if isinstance(name, str) and isinstance(licence, str) else None


def write_label(directory: Path, label: Label) -> None:
    """Put a label into a base's directory, whole or not at all."""
    shown = Label(label.name[:MAX_NAME], label.licence)
    beside = directory / f".{LABEL_FILE}"
    beside.write_text(json.dumps(asdict(shown), indent=1), encoding="utf-8")
    os.replace(beside, directory / LABEL_FILE)
