"""From a gradient to integers: a count-sketch that nobody could choose; of an answer int8, of a row signs.

Rules of this file:
- Coordinate j of the flattened gradient takes bytes 4j … 4j+3 of SHAKE-256("commonlore/sketch/1" ‖ seed) as a
  little-endian integer d: it is added to bucket d mod width with the sign of d's top bit. `width` is a power
  of two. Buckets are summed in float64 in the order of coordinates.
- An answer's buckets are divided by their length, multiplied by 21·sqrt(width) and rounded half to even,
  within -127 … 127. A random direction then has entries of about ±21, and clipping begins at six times that.
- Of a row's buckets the signs are kept (zero counts as positive), times one weight for all of them:
  32·length / sqrt(coordinates), rounded half to even, within 8 … 64. A row that taught more counts more,
  within bounds that no row can leave; eight times as many places as int8 has in the same bytes lose less.
- From there on everything is integer. A zero gradient of an answer is the zero vector: it earns nothing.

(Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002, for the sketch; Charikar,
"Similarity estimation techniques from rounding algorithms", 2002, for the signs.)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...protocol.errors import LocalProtocolError
from ...protocol.ids import Cid, digest_of

METHOD = "ekfac-sign/1"
"""The method that `gradient`, `curvature` and this file are, as statements name it."""
PLAIN_METHOD = "grad-sign/1"
"""The same without whitening: of adapters that have published no curvature."""
WIDTH = 32_768
LIGHTEST, HEAVIEST = 8, 64
"""Bounds of a row's weight."""
_USUAL = 32.0
_SCALE = 21.0
_LIMIT = 127
_MOST_OTHER_SIGNS = 0.02
_MOST_OTHER_WEIGHT = 0.04
Int8s = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


def sketch_seed(adapter: Cid, beacon: bytes = b"") -> bytes:
    """The projection's 32-byte seed: fixed by the adapter's id and by a beacon drawn after it."""
    return hashlib.sha256(b"commonlore/attribution/1" + digest_of(adapter) + beacon).digest()


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A projection of coordinates to `width` buckets; drawn once and kept, four bytes a coordinate."""

    width: int
    draws: npt.NDArray[np.uint32]

    @classmethod
    def draw(cls, seed: bytes, size: int, width: int = WIDTH) -> Sketch:
        """The projection that `seed` names.

        Raises LocalProtocolError unless `width` is a power of two up to 2^17.
        """
        if width & (width - 1) or not 0 < width <= 1 << 17:
            raise LocalProtocolError(f"a sketch of width {width}; it must be a power of two up to {1 << 17}")
        stream = hashlib.shake_256(b"commonlore/sketch/1" + seed).digest(4 * size)
        return cls(width, np.frombuffer(stream, "<u4"))

    def project(self, gradient: Floats) -> npt.NDArray[np.float64]:
        """(size,) float32 to (width,) float64."""
        if gradient.shape != self.draws.shape:
            raise LocalProtocolError(
                f"a gradient of {gradient.size} coordinates; this sketch takes {self.draws.size}"
            )
        signed = np.where(self.draws >> 31 == 1, -gradient, gradient)
        buckets = (self.draws & (self.width - 1)).astype(np.int32)
        return np.bincount(buckets, weights=signed, minlength=self.width).astype(np.float64, copy=False)


def quantise(vector: npt.NDArray[np.float64]) -> Int8s:
    """An answer's direction as int8, (width,). Raises LocalProtocolError on infinities and NaN."""
    length = _length(vector)
    if length == 0.0:
        return np.zeros(vector.shape, np.int8)
    scaled = vector * (_SCALE * vector.size**0.5 / length)
    clipped: Int8s = np.clip(np.rint(scaled), -_LIMIT, _LIMIT).astype(np.int8)
    return clipped


def weigh_signs(vector: npt.NDArray[np.float64], coordinates: int) -> Int8s:
    """A row's weight with the sign of each place, (width,) int8, of a projected gradient of so many
    coordinates. Raises LocalProtocolError on infinities and NaN.
    """
    weight = round(min(max(_USUAL * _length(vector) / coordinates**0.5, LIGHTEST), HEAVIEST))
    signed: Int8s = np.where(vector < 0, -weight, weight).astype(np.int8)
    return signed


def agrees(claimed: Int8s, recomputed: Int8s) -> bool:
    """Whether two rows' vectors are the same up to the rounding of two machines' arithmetic."""
    weights = [int(abs(int(vector[0]))) for vector in (claimed, recomputed)]
    other = int(((claimed < 0) != (recomputed < 0)).sum())
    apart = abs(weights[0] - weights[1])
    return apart <= 1 + _MOST_OTHER_WEIGHT * weights[1] and other <= _MOST_OTHER_SIGNS * len(recomputed)


def _length(vector: npt.NDArray[np.float64]) -> float:
    length = float(np.sqrt(np.square(vector).sum()))
    if not np.isfinite(length):
        raise LocalProtocolError("the gradient is not finite; the adapter or its base is damaged")
    return length
