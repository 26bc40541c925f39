"""One private folder a peer, one node a folder."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from commonlore.peer.home import Home
from commonlore.protocol.errors import ConfigError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_flag_then_environment_then_user_folder(tmp_path):
    environment = {"COMMONLORE_HOME": str(tmp_path / "e")}
    assert Home.locate(tmp_path / "f", environment).path == tmp_path / "f"
    assert Home.locate(None, environment).path == tmp_path / "e"
    assert Home.locate(None, {}).path.name == "commonlore"
    assert Home.locate("~/x", {}).path.is_absolute()


def test_folders_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        home = Home(tmp_path / "deep" / "home").create()
    finally:
        os.umask(before)
    for folder in (home.path, home.keys, home.blobs, home.jobs, home.logs):
        assert mode(folder) == 0o700
    home.path.chmod(0o755)
    home.create()
    assert mode(home.path) == 0o700


def test_unusable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*COMMONLORE_HOME"):
        Home(tmp_path / "file" / "home").create()


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="new folder"):
        Home(tmp_path).create()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    assert mode(tmp_path) == 0o755


def test_a_configuration_written_beforehand_is_welcome(tmp_path):
    (tmp_path / "config.toml").write_text("")
    assert Home(tmp_path).create().keys.is_dir()


def test_second_node_is_told_who_holds_the_home(tmp_path):
    home = Home(tmp_path)
    with home.lock(), pytest.raises(ConfigError, match=f"process {os.getpid()}"), home.lock():
        pass
    with home.lock():
        assert mode(tmp_path / "node.lock") == 0o600


def test_a_killed_node_leaves_the_home_free(tmp_path):
    program = (
        "import sys, signal; from commonlore.peer.home import Home\n"
        "with Home.locate(sys.argv[1]).lock(): print('held', flush=True); signal.pause()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ConfigError, match=f"process {holder.pid}"), Home(tmp_path).lock():
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with Home(tmp_path).lock():
        pass


def test_control_socket_path_fits(tmp_path):
    assert Home(tmp_path / "h").control_socket.name == "control.sock"
    with pytest.raises(ConfigError, match="shorter path"):
        _ = Home(tmp_path / ("x" * 120)).control_socket
