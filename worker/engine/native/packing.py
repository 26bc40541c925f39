"""Base weights in the order in which `linear.h` reads them.

Rules of this file:
- Outputs stand in panels of 48, the last one padded with zeros; a panel is read strictly forwards.
- bf16: [panel][in / 2][48][2], pairs of neighbouring inputs side by side, as VDPBF16PS takes them.
- int4: for every panel and group of 32 inputs 48 scales and 48 minima (fp16), then the nibbles [8][3][32
  bytes]: byte 2 o + i of a row holds, of output o (of 16) and four inputs k … k + 3, input k + i in its low
  and k + 2 + i in its high half (`int4.py` says what they mean).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..memory.int4 import GROUP, quantise

PANEL = 48
_LANES = 16


def padded(outputs: int) -> int:
    """Outputs with the last panel's padding."""
    return -(-outputs // PANEL) * PANEL


def pack_bf16(weight: Tensor) -> Tensor:
    """[out, in] → bf16 [panels, in / 2, 48, 2]. `in` is even."""
    whole = _padded_rows(weight.to(torch.bfloat16))
    panels = whole.view(-1, PANEL, whole.shape[1] // 2, 2)
    return panels.permute(0, 2, 1, 3).contiguous()


def pack_int4(weight: Tensor) -> Tensor:
    """[out, in] → uint8 [panels, in / 32, 960]. `in` is a multiple of 32."""
    quantised = quantise(_padded_rows(weight))
    panels, groups = padded(len(weight)) // PANEL, weight.shape[1] // GROUP
    # panel, register, output, group, unit, half, input → panel, group, unit, register, output, input, half
    units = quantised.nibbles.view(panels, 3, _LANES, groups, 8, 2, 2).permute(0, 3, 4, 1, 2, 6, 5)
    packed = units[..., 0] | (units[..., 1] << 4)
    scales, minima = (_scale_bytes(part, panels) for part in (quantised.scales, quantised.minima))
    return torch.cat([scales, minima, packed.reshape(panels, groups, -1)], 2).contiguous()


def _padded_rows(weight: Tensor) -> Tensor:
    return F.pad(weight, (0, 0, 0, padded(len(weight)) - len(weight)))


def _scale_bytes(values: Tensor, panels: int) -> Tensor:
    """[padded out, groups] → [panels, groups, 96 bytes]."""
    return values.view(panels, PANEL, -1).permute(0, 2, 1).contiguous().view(torch.uint8)
