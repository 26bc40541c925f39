"""Rows of an index as bytes."""

import numpy as np
import pytest

from commonlore.protocol.attribution.written_rows import HEAVIEST, LIGHTEST, read_rows, write_row
from commonlore.protocol.errors import RemoteProtocolError


@pytest.mark.parametrize("weight", [0, LIGHTEST - 1, HEAVIEST + 1, 255])
def test_a_weight_that_no_row_has_is_refused(weight: int) -> None:
    row = np.where(np.arange(16) % 3, HEAVIEST, -HEAVIEST).astype(np.int8)
    assert (read_rows(write_row(row), 16) == row).all()
    with pytest.raises(RemoteProtocolError, match="weight"):
        read_rows(write_row(row) + bytes([weight]) + bytes(2), 16)
