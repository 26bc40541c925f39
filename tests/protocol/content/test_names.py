"""One rule for names."""

import pytest

from commonlore.protocol.content.names import check_alias, check_name, is_alias, is_name
from commonlore.protocol.errors import RemoteProtocolError

GOOD = ["a", "0", "a.b", "a_b-c", "icd10", "a" * 64]
BAD = ["", "A", "aB", "a b", "a/b", ".a", "-a", "_", "ä", "a\n", "a" * 65, ".."]


@pytest.mark.parametrize("name", GOOD)
def test_what_is_a_name(name: str) -> None:
    assert is_name(name)
    assert is_alias(f"{name}/{name}")
    assert not is_alias(name)
    check_name(name)
    check_alias(f"{name}/x")


@pytest.mark.parametrize("name", BAD)
def test_what_is_none(name: str) -> None:
    assert not is_name(name)
    assert not is_alias(f"a/{name}")
    assert not is_alias(f"{name}/a")
    with pytest.raises(RemoteProtocolError, match="not a name"):
        check_name(name)
    with pytest.raises(RemoteProtocolError, match="expected owner/name"):
        check_alias(f"bob/{name}")
