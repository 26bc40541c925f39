"""Logs are JSON lines, quiet on stderr, and never show a secret."""

import base64
import json
import logging

import pytest

from commonlore.peer.logs import keep_secret, open_logs

log = logging.getLogger("commonlore.peer.test")


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_carry_facts_and_errors(tmp_path, capsys):
    with open_logs(tmp_path) as path:
        log.info("served %s", "an answer", extra={"payer": b"\x01\x02", "tokens": 7})
        log.debug("too fine")
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("failed")
    first, second = lines(path)
    assert first["message"] == "served an answer"
    assert (first["level"], first["logger"]) == ("info", "commonlore.peer.test")
    assert (first["payer"], first["tokens"]) == ("0102", 7)
    assert first["time"].endswith("+00:00")
    assert "ValueError: broken" in second["error"]
    assert capsys.readouterr().err == "error: failed\n"


def test_stderr_is_quiet_unless_verbose(tmp_path, capsys):
    with open_logs(tmp_path):
        log.info("quiet")
    assert capsys.readouterr().err == ""
    with open_logs(tmp_path, "debug", verbose=True):
        log.debug("loud")
    assert capsys.readouterr().err == "debug: loud\n"


def test_third_party_warnings_reach_only_the_file(tmp_path, capsys):
    with open_logs(tmp_path) as path:
        logging.getLogger("somebody.else").warning("odd")
        logging.getLogger("somebody.else").info("chatter")
    assert [line["message"] for line in lines(path)] == ["odd"]
    assert capsys.readouterr().err == ""


SECRET = bytes(range(100, 132))


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET.hex(),
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode(),
        repr(SECRET),
    ],
)
def test_a_kept_secret_is_hidden_in_every_spelling(tmp_path, capsys, spelling):
    keep_secret(SECRET)
    with open_logs(tmp_path) as path:
        log.warning("oops %s", spelling, extra={"fact": {"inner": spelling}})
        try:
            raise RuntimeError(spelling)
        except RuntimeError:
            log.exception("failed with it")
    shown = path.read_text(encoding="utf-8") + capsys.readouterr().err
    assert spelling.strip("=") not in shown
    assert "[secret]" in shown


def test_a_secret_word_and_secret_keys(tmp_path):
    keep_secret("correct horse")
    keep_secret("correct horse battery")
    keep_secret("horse battery")
    with open_logs(tmp_path) as path:
        log.info("passphrase was correct horse battery", extra={"api_key": "sk-12", "Seed": "abc"})
    (line,) = lines(path)
    assert line["message"] == "passphrase was [secret]"
    assert line["api_key"] == line["Seed"] == "[secret]"


def test_short_values_do_not_eat_text(tmp_path):
    keep_secret("a")
    with open_logs(tmp_path) as path:
        log.info("a banana")
    assert lines(path)[0]["message"] == "a banana"
