"""Configuration: precedence, types, and errors that name the setting and the remedy."""

import dataclasses

import pytest

from commonlore.peer.config import Config, load_config
from commonlore.protocol.errors import ConfigError


def write(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(text)
    return file


def test_defaults_are_valid_and_listen_on_loopback():
    config = load_config(None, {})
    assert config == Config()
    assert config.listen == ("/ip4/127.0.0.1/tcp/0",)
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    assert load_config(None, {}, values) == config


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path):
    file = write(tmp_path, 'threads = 1\nmax_batch = 2\npolicy = "cheapest"\n')
    environment = {"COMMONLORE_THREADS": "3", "COMMONLORE_MAX_BATCH": "4", "PATH": "/bin"}
    config = load_config(file, environment, {"threads": 5, "policy": None})
    assert (config.threads, config.max_batch, config.policy) == (5, 4, "cheapest")


def test_a_missing_file_is_an_empty_one(tmp_path):
    assert load_config(tmp_path / "none.toml", {}) == Config()


def test_lists():
    environment = {"COMMONLORE_ROLES": "worker, gateway", "COMMONLORE_BOOTSTRAP": ""}
    config = load_config(None, environment, {"listen": ["/ip4/0.0.0.0/tcp/4001"]})
    assert config.roles == ("worker", "gateway")
    assert config.bootstrap == ()
    assert config.listen == ("/ip4/0.0.0.0/tcp/4001",)


def test_home_and_passphrase_are_no_settings():
    environment = {"COMMONLORE_HOME": "/x", "COMMONLORE_PASSPHRASE": "p", "COMMONLORE_PASSPHRASE_FILE": "/f"}
    assert load_config(None, environment) == Config()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("thread = 2", r"unknown setting 'thread' in .*config\.toml; did you mean threads"),
        ("zzz = 2", r"unknown setting 'zzz'.*known are .*chain_url"),
        ("[engines]\npages = 3", r"unknown setting 'engines'.*did you mean .*engine_pages"),
        ("[engine]\npages = 3", "engine .* expected one of torch, exllamav2"),
        ('threads = "two"', r"threads in .* is 'two'; expected a whole number"),
        ("threads = true", "expected a whole number"),
        ("threads = -1", "expected 0 to 1024"),
        ("request_fee = -1", "request_fee .* expected 0 to"),
        ('precision = "int3"', "precision .* expected one of bf16, int4, fp32"),
        ('roles = ["worker", "boss"]', "roles .* has 'boss'; expected a list of worker"),
        ('roles = "worker"', "roles .* has 'worker'; expected a list of"),
        ("listen = [1]", "listen .* has 1; expected a list of text"),
        ("base = 3", "base .* is 3; expected text"),
        ("threads = ", "is not TOML"),
    ],
)
def test_bad_file(tmp_path, toml, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, toml), {})


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("COMMONLORE_MAX_BACH", "3", "unknown setting 'max_bach' in the environment; did you mean max_batch"),
        ("COMMONLORE_THREADS", "two", "threads in the environment is 'two'"),
        ("COMMONLORE_ROLES", "worker,boss", "roles in the environment has 'boss'"),
    ],
)
def test_bad_environment(variable, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, {variable: text})


def test_bad_flag():
    with pytest.raises(ConfigError, match="the command line"):
        load_config(None, {}, {"polic": "random"})


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path, {})


def test_api_keys_stay_out_of_repr():
    config = load_config(None, {}, {"api_keys": ("sk-very-secret",)})
    assert "secret" not in repr(config)
    assert "threads=0" in repr(config)
