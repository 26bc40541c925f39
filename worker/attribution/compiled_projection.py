"""Whitening and projection, compiled (`native/whiten.h`), so that they take little beside the two passes.

Rules of this file: what C++ reads is kept alive here; buckets are the same as `Curvature.whiten` and
`Sketch.project` give, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...protocol.errors import LocalProtocolError
from .curvature import Curvature, TensorCurvature, oriented
from .native import structures as c
from .sketch import Sketch

_EIGHT = 8


class CompiledProjection:
    """An adapter's curvature and a projection."""

    def __init__(self, curvature: Curvature, sketch: Sketch) -> None:
        """Raises Unavailable, LocalProtocolError where they do not fit each other."""
        if curvature.size != len(sketch.draws):
            raise LocalProtocolError(
                f"a gradient of {curvature.size} coordinates; this sketch takes {len(sketch.draws)}"
            )
        self._library = c.load_passes()
        self._names = list(curvature.tensors)
        self._draws, self._width = np.ascontiguousarray(sketch.draws), sketch.width
        self._alive: list[Tensor] = []
        tensors = [self._describe(each, curvature.damping) for each in curvature.tensors.values()]
        self._tensors = (c.Whitening * len(tensors))(*tensors)
        most = max((each.rank + _EIGHT) * (each.wide + each.columns) for each in tensors)
        self._room = torch.empty(most)

    def __call__(self, gradients: Mapping[str, Tensor]) -> npt.NDArray[np.float64]:
        """{tensor: (1, out, in)} to (width,)."""
        held = [oriented(name, gradients[name])[0].contiguous() for name in self._names]
        for tensor, gradient in zip(self._tensors, held, strict=True):
            if gradient.shape != (tensor.rank, tensor.wide) or gradient.dtype != torch.float32:
                raise LocalProtocolError(f"a gradient of {tuple(gradient.shape)} {gradient.dtype}")
            tensor.gradient = gradient.data_ptr()
        buckets = np.zeros(self._width, np.float64)
        draws = self._draws.ctypes.data, self._width, buckets.ctypes.data
        self._library.commonlore_passes_project(self._tensors, len(held), *draws, self._room.data_ptr())
        return buckets

    def _describe(self, tensor: TensorCurvature, damping: float) -> c.Whitening:
        top, rest = tensor.factors(damping)
        rank, wide, columns, has_rest = tensor.shape
        return c.Whitening(
            basis=self._keep(tensor.rank.float().T),
            codes=self._keep(tensor.wide.T),
            steps=self._keep(tensor.steps.float()),
            top=self._keep(top),
            rest=self._keep(rest) if has_rest else None,
            rank=rank,
            wide=wide,
            columns=columns,
        )

    def _keep(self, tensor: Tensor) -> int:
        self._alive.append(tensor.contiguous())
        return self._alive[-1].data_ptr()
