"""`key`: identities made offline, never a secret on the screen."""

from __future__ import annotations

import json
from pathlib import Path

from commonlore.peer.identity.keystore import Keystore


def test_an_identity_is_made_listed_and_shown(lore, home: Path) -> None:
    made = json.loads(lore("key", "new", "alice", "--json").stdout)
    assert made["name"] == "alice"
    assert made["peer_id"].startswith("12D3KooW")
    assert json.loads(lore("key", "list", "--json").stdout) == [made]
    assert json.loads(lore("key", "show", "alice", "--json").stdout) == made
    assert made["payee"] in lore("key", "list").stdout


def test_the_peers_own_keys_are_made_at_first_use(lore, home: Path) -> None:
    first = json.loads(lore("key", "show", "--json").stdout)
    assert set(first) == {"peer_id", "owner", "session"}
    assert json.loads(lore("key", "show", "--json").stdout) == first


def test_no_secret_is_ever_printed(lore, home: Path) -> None:
    printed = "".join(
        lore("key", *words).output for words in (("new", "a"), ("show", "a"), ("show",), ("list",))
    )
    keystore = Keystore(home / "keys")
    own, identity = keystore.own(), keystore.identity("a")
    for secret in (own.peer.seed, own.owner.secret, own.session.secret, identity.payee.secret):
        assert secret.hex() not in printed


def test_a_name_that_is_taken_or_unknown_is_one_line(lore) -> None:
    lore("key", "new", "alice")
    taken = lore("key", "new", "alice")
    assert taken.exit_code == 1
    assert taken.stderr == "error: there is already a key named 'alice'; choose another name\n"
    unknown = lore("key", "show", "bob")
    assert unknown.exit_code == 1
    assert unknown.stderr == "error: no key named 'bob'; make it with: commonlore key new bob\n"


def test_a_payee_is_replaced_offline_and_the_old_key_kept(lore, home: Path) -> None:
    before = json.loads(lore("key", "new", "alice", "--json").stdout)
    done = json.loads(lore("key", "rotate", "alice", "--json").stdout)
    assert done["before"] == before["payee"]
    assert done["payee"] != before["payee"]
    assert done["transaction"] is None
    assert {path.name for path in (home / "keys").glob("alice*")} == {"alice.json", "alice.before-1.json"}


def test_nothing_changes_when_the_chain_cannot_be_asked(lore, home: Path) -> None:
    before = json.loads(lore("key", "new", "alice", "--json").stdout)
    (home / "config.toml").write_text('chain_url = "http://127.0.0.1:1"\n')
    failed = lore("key", "rotate", "alice")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: chain_url is set but deployment is not")
    assert json.loads(lore("key", "show", "alice", "--json").stdout) == before
