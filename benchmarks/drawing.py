"""What the pictures of measurements share: folder, colours, and that a result always gives the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from .child import ROOT

PICTURES = ROOT / "docs" / "pictures"
OURS, THEIRS = "#1f6f8b", "#b5b5b5"


def begin(folder: Path) -> None:
    """Make the folder, and set what all pictures share."""
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams |= {
        "svg.hashsalt": "commonlore",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }


def save(figure: Any, path: Path) -> Path:
    """Without a date."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
