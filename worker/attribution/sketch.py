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

from ...protocol.attribution.written_rows import HEAVIEST, LIGHTEST
from ...protocol.errors import LocalProtocolError

METHOD = "ekfac-sign/2"
"""The method that `gradient`, `curvature` and this file are, as statements name it."""
PLAIN_METHOD = "grad-sign/2"
"""The same without whitening: of adapters that have published no curvature."""
WIDTH = 32_768
_USUAL = 32.0
_SCALE = 21.0
_LIMIT = 127
NEAR = 1 / 2_000
"""How far from zero, in root mean squares, a place may stand whose sign another machine finds different."""
OTHER_SIGNS, FEWEST_OTHER = 2_048, 2
"""One place in so many may be different, and so many at least."""
_OTHER_WEIGHT = 0.01
Int8s = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


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
    weight = round(_weight(vector, coordinates))
    signed: Int8s = np.where(vector < 0, -weight, weight).astype(np.int8)
    return signed


def agrees(claimed: Int8s, vector: npt.NDArray[np.float64], coordinates: int) -> bool:
    """Whether weighted signs are those of this projected gradient, up to what two machines' arithmetic
    changes: signs of places that are all but zero, and the rounding of the weight."""
    other = (claimed < 0) != (vector < 0)
    near = NEAR * _length(vector) / vector.size**0.5
    if int(other.sum()) > most_other_signs(vector.size) or (np.abs(vector[other]) > near).any():
        return False
    apart = abs(abs(int(claimed[0])) - _weight(vector, coordinates))
    return bool((np.abs(claimed) == abs(int(claimed[0]))).all()) and apart <= 0.5 + _OTHER_WEIGHT


def most_other_signs(width: int) -> int:
    """How many of a row's signs two machines may find different."""
    return max(FEWEST_OTHER, width // OTHER_SIGNS)


def _weight(vector: npt.NDArray[np.float64], coordinates: int) -> float:
    return float(min(max(_USUAL * _length(vector) / coordinates**0.5, LIGHTEST), HEAVIEST))


def _length(vector: npt.NDArray[np.float64]) -> float:
    length = float(np.sqrt(np.square(vector).sum()))
    if not np.isfinite(length):
        raise LocalProtocolError("the gradient is not finite; the adapter or its base is damaged")
    return length
