"""A deposit by a home's keys alone, on a development chain that is really served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from commonlore.cli.main import app
from commonlore.contracts.calling.endpoint import Endpoint
from commonlore.contracts.embedded.controls import DevchainProcess, fund
from commonlore.peer.config import Config
from commonlore.peer.home import Home
from commonlore.peer.identity.keystore import Keystore
from commonlore.peer.settling.depositing import deposit_alone
from commonlore.protocol.errors import ChainError, ConfigError


def test_a_home_without_a_node_deposits_by_its_own_keys(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    keystore, deployment = Keystore(home.keys), tmp_path / "deployment.json"
    with DevchainProcess(["--deployment-out", str(deployment)]) as chain:
        config = Config(chain_url=chain.url, deployment=str(deployment))
        with pytest.raises(ChainError, match="commonlore faucet"):
            deposit_alone(home, config, keystore, 500)
        endpoint = Endpoint(chain.url)
        fund(endpoint, keystore.own().owner.address, 700, 10**18)
        endpoint.close()
        state = deposit_alone(home, config, keystore, 500)
        assert (state["balance"], state["tokens"]) == (500, 200)
        assert 0 < state["gas_wei"] < 10**18
        with home.lock(), pytest.raises(ConfigError, match="another node"):
            deposit_alone(home, config, keystore, 1)
        where = ["--chain-url", chain.url, "--deployment", str(deployment), "--home", str(home.path)]
        assert lore("bond", "show", *where).stdout.startswith("no bonds")
        added = json.loads(lore("bond", "add", "attributor", "150", *where, "--json").stdout)
        assert (added["role"], added["amount"], added["thawing"]) == ("attributor", 150, 0)
        assert json.loads(lore("bond", "thaw", "attributor", "50", *where, "--json").stdout)["thawing"] == 50
        assert "StillThawing" in lore("bond", "withdraw", "attributor", *where).output
        assert "no role 'king'" in lore("bond", "add", "king", "1", *where).output
        (bond,) = json.loads(lore("bond", "show", *where, "--json").stdout)
        assert (bond["amount"], bond["thawing"], bond["frozen"]) == (150, 50, False)


def lore(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_without_a_chain_there_is_nowhere_to_deposit(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(ConfigError, match="no chain is configured: name it with --chain-url URL"):
        deposit_alone(home, Config(), Keystore(home.keys), 1)
    assert not home.path.exists()
