"""Our method's settings: the one that is reported, those it was chosen among, and what its limits cost."""

from __future__ import annotations

from collections.abc import Mapping

from commonlore.worker.attribution.curvature import DIAGONAL, FITTED, top

from .ours import Setting

OURS: Mapping[str, Setting] = {"ours": Setting()}

ABLATIONS: Mapping[str, Setting] = {
    "ours, many examples to a pass": Setting(),
    "ours, no columns, diagonal": Setting(plan=DIAGONAL),
    "ours, 4 columns": Setting(plan=top(4)),
    "ours, 16 columns": Setting(plan=top(16)),
    "ours, 8,192 wide": Setting(width=8_192),
    "ours, 131,072 wide": Setting(width=131_072),
    "ours, rows of one weight": Setting(weighted=False),
    "ours, end of the first epoch": Setting(epoch=1),
    "ours, last epoch": Setting(epoch=4),
}
"""What each limit costs, on the reported seeds; nothing is chosen among these."""

FORMS: Mapping[str, Setting] = {
    "8 bits, 4,096 wide": Setting(width=4_096, bits=8, weighted=False),
    "4 bits, 8,192 wide": Setting(width=8_192, bits=4, weighted=False),
    "2 bits, 16,384 wide": Setting(width=16_384, bits=2, weighted=False),
    "1 bit, 32,768 wide": Setting(weighted=False),
    "1 bit, 32,768 wide, weighted": Setting(),
}
"""Ways to spend the same bytes of a row; the last is what attributors do."""

CHOICES: Mapping[str, Setting] = {
    **{f"epoch {epoch}": Setting(epoch=epoch) for epoch in (1, 2, 4)},
    "early": Setting(),
    **{
        f"damping {damping}": Setting(plan=top(8, damping=damping)) for damping in (0.01, 0.03, 0.1, 0.3, 1.0)
    },
    **{f"{columns} columns": Setting(plan=top(columns)) for columns in (0, 4, 8, 16, 32)},
    "8 columns, own rest": Setting(plan=top(8, separable=False)),
    "fitted": Setting(plan=FITTED),
    **{f"width {width}": Setting(width=width) for width in (4_096, 8_192, 16_384, 65_536)},
    "rows of one weight": Setting(weighted=False),
    "int8, 4,096 wide": Setting(width=4_096, bits=8, weighted=False),
}
"""Measured on development seeds only."""
