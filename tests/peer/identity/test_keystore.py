"""Keys at rest: made once, opened by their passphrase only, private, and nowhere to be read in the clear."""

import json
import logging
import stat

import pytest

from commonlore.peer.identity.keyfile import TYPED_COST, Passphrase
from commonlore.peer.identity.keystore import MACHINE_FILE, Keystore
from commonlore.peer.logs import open_logs
from commonlore.protocol.errors import ConfigError, NotFound


def secrets_of(keys):
    return (keys.peer.seed, keys.owner.secret, keys.session.secret)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


def test_first_use_makes_keys_and_they_stay(folder):
    keys = Keystore(folder, {}).own()
    again = Keystore(folder, {}).own()
    assert secrets_of(keys) == secrets_of(again)
    assert len(set(secrets_of(keys))) == 3
    assert keys.owner.address != keys.session.address


def test_files_are_private_and_hold_nothing_in_the_clear(folder):
    keystore = Keystore(folder, {})
    keys, ada = keystore.own(), keystore.create("ada")
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["ada.json", MACHINE_FILE, "peer.json"]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes()
        for secret in (*secrets_of(keys), ada.peer.seed, ada.payee.secret):
            assert secret not in content
            assert secret.hex().encode() not in content
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_passphrase_from_the_environment_leaves_no_machine_file(folder, tmp_path):
    environment = {"COMMONLORE_PASSPHRASE": "correct horse"}
    keys = Keystore(folder, environment).own()
    assert not (folder / MACHINE_FILE).exists()
    kdf = json.loads((folder / "peer.json").read_text())["kdf"]
    assert (kdf["operations"], kdf["memory"]) == TYPED_COST
    (tmp_path / "phrase").write_text("correct horse\n")
    from_file = Keystore(folder, {"COMMONLORE_PASSPHRASE_FILE": str(tmp_path / "phrase")}).own()
    assert secrets_of(from_file) == secrets_of(keys)
    with pytest.raises(ConfigError, match=r"does not open .*peer\.json"):
        Keystore(folder, {"COMMONLORE_PASSPHRASE": "wrong horse"}).own()
    with pytest.raises(ConfigError, match=r"no passphrase for .* set COMMONLORE_PASSPHRASE"):
        Keystore(folder, {}).own()


def test_a_person_is_asked_for_new_keys_only_when_wanted(folder):
    asked = []

    def prompt(text):
        asked.append(text)
        return "typed phrase"

    keys = Keystore(folder, {}, prompt, ask=True).own()
    assert secrets_of(Keystore(folder, {}, prompt).own()) == secrets_of(keys)
    assert asked == ["New passphrase: ", "Passphrase: "]
    assert not (folder / MACHINE_FILE).exists()


def test_without_ask_nobody_is_asked_for_first_keys(folder):
    def prompt(text):
        raise AssertionError("asked")

    Keystore(folder, {}, prompt).own()
    Keystore(folder, {}, prompt).own()


@pytest.mark.parametrize("content", [None, ""])
def test_unusable_passphrase_file_is_named(folder, tmp_path, content):
    path = tmp_path / "phrase"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"passphrase file .*phrase"):
        Keystore(folder, {"COMMONLORE_PASSPHRASE_FILE": str(path)}).own()


def test_named_identities(folder):
    keystore = Keystore(folder, {})
    keystore.own()
    ada, bob = keystore.create("ada"), keystore.create("bob")
    assert keystore.identity("ada").payee.secret == ada.payee.secret
    listed = {i.name: (i.peer_id, i.payee) for i in Keystore(folder, {}).identities()}
    assert listed == {i.name: (i.peer.peer_id, i.payee.address) for i in (ada, bob)}
    with pytest.raises(ConfigError, match="already a key named 'ada'"):
        keystore.create("ada")
    with pytest.raises(NotFound, match="commonlore key new cyd"):
        keystore.identity("cyd")


@pytest.mark.parametrize("name", ["", "peer", "../x", "A", "-a", "a/b", "a" * 65, ".a"])
def test_bad_names(folder, name):
    with pytest.raises(ConfigError, match="not a name for a key"):
        Keystore(folder, {}).create(name)


def test_replacing_a_payee_keeps_the_old_key(folder):
    keystore = Keystore(folder, {})
    first = keystore.create("ada")
    before, after = keystore.replace_payee("ada")
    assert before.payee.secret == first.payee.secret
    assert after.payee.secret != first.payee.secret
    assert after.peer.seed == first.peer.seed
    assert keystore.identity("ada").payee.secret == after.payee.secret
    assert keystore.identity("ada.before-1").payee.secret == first.payee.secret
    keystore.replace_payee("ada")
    assert keystore.identity("ada.before-2").payee.secret == after.payee.secret


def damage_box(stored):
    stored["box"] = "AAAA" + stored["box"][4:]


def damage_public(stored):
    stored["public"]["owner"] = "0x" + "11" * 20


def damage_cost(stored):
    stored["kdf"]["memory"] = 1 << 40


def damage_salt(stored):
    stored["kdf"]["salt"] = "zz"


def damage_form(stored):
    stored["kdf"] = []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_box, "does not open"),
        (damage_public, "public part .* was changed"),
        (damage_cost, "damaged"),
        (damage_salt, "damaged"),
        (damage_form, "damaged"),
        (lambda stored: stored.clear(), "damaged"),
    ],
)
def test_a_damaged_file_is_named(folder, damage, message):
    Keystore(folder, {}).own()
    path = folder / "peer.json"
    stored = json.loads(path.read_text())
    damage(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=message) as caught:
        Keystore(folder, {}).own()
    assert "peer.json" in str(caught.value)
    path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        Keystore(folder, {}).own()


def test_a_failed_write_leaves_the_old_file(folder, monkeypatch):
    keystore = Keystore(folder, {})
    ada = keystore.create("ada")

    def fails(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fails)
        with pytest.raises(ConfigError, match=r"cannot write .*No space"):
            keystore.replace_payee("ada")
    assert Keystore(folder, {}).identity("ada").payee.secret == ada.payee.secret
    assert sorted(path.name for path in folder.iterdir()) == ["ada.json", MACHINE_FILE]


def test_secrets_are_in_no_repr_and_no_log(folder, tmp_path, capsys):
    environment = {"COMMONLORE_PASSPHRASE": "correct horse"}
    keystore = Keystore(folder, environment)
    keys, ada = keystore.own(), keystore.create("ada")
    hidden = [*secrets_of(keys), ada.peer.seed, ada.payee.secret]
    shown = repr((keys, ada, keystore, Passphrase(b"correct horse"), keystore.identities()))
    with open_logs(tmp_path, "debug", verbose=True) as path:
        log = logging.getLogger("commonlore.test")
        for secret in hidden:
            log.info("mistake %s", secret.hex(), extra={"raw": secret})
        log.info("mistake correct horse", extra={"keys": keys})
    shown += path.read_text() + capsys.readouterr().err
    assert "correct horse" not in shown
    for secret in hidden:
        assert secret.hex() not in shown
        assert repr(secret) not in shown
