"""Commands run in this process, each test with a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commonlore.cli.main import app

Lore = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that is the default of every command."""
    monkeypatch.setenv("COMMONLORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COMMONLORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def lore(home: Path) -> Lore:
    """Runs a command line: `lore("key", "new", "alice")`."""
    runner = CliRunner()

    def run(*arguments: str, **options: object) -> Result:
        return runner.invoke(app, list(arguments), prog_name="commonlore", catch_exceptions=False, **options)

    return run
