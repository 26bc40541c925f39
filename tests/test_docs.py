"""The documentation is true: commands, options, links, snippets, tables and limits are those of the code."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from commonlore.cli.main import app
from commonlore.peer.asking import attempt, paying, prefetch
from commonlore.peer.attribution import second_opinions, statements
from commonlore.peer.config import CHOICES, RESERVED, Config
from commonlore.peer.wire import reconcile
from commonlore.protocol.content import splits
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.inference.messages import Message, RefusalCode
from commonlore.protocol.inference.transitions import CROSSING, TRANSITIONS
from commonlore.simulations.experiment.scenario import read_experiment, scenario_path

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
ROOMS = {"cli", "simulations", "peer", "worker", "scheduler", "contracts", "protocol"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TICKED = re.compile(r"`([^`\n]+)`")
TOLD = re.compile(r"(?:[:(`] ?|run |with )commonlore ([a-z]+)(?: ([a-z]+))?")
"""A command that a message or docstring tells somebody to run."""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(page, text) of every fenced block in a language."""
    for path in PAGES:
        for found in FENCE.finditer(path.read_text(encoding="utf-8")):
            if found[1] == language:
                yield path.name, found[2]


def shell_lines() -> list[str]:
    lines = (line.partition(" #")[0].strip() for _, text in blocks("sh") for line in text.splitlines())
    return sorted({line for line in lines if line and not line.startswith("#")})


def rows(text: str) -> list[list[str]]:
    """The cells of every table row of a page, without headings' rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def section(text: str, title: str) -> str:
    """What stands under a heading of the second rank."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words of a command line name, and what is left for it."""
    command: Any = typer.main.get_command(app)
    left = list(words)
    while left and left[0] in getattr(command, "commands", {}):
        command = command.commands[left.pop(0)]
    return command, left


@pytest.mark.parametrize("line", shell_lines())
def test_every_shell_line_can_be_typed(line: str) -> None:
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    match words:
        case ["commonlore", *arguments]:
            command, left = command_of(arguments)
            assert not hasattr(command, "commands"), f"{line}: not a whole command"
            command.make_context("commonlore", left)
        case ["make", word, *_]:
            assert re.search(rf"^{word}:", page("Makefile"), re.M), line
        case ["python", "-m", module, *_]:
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), line
        case _:
            assert words[0] in {"curl", "pip", "."}, line


def test_commands_and_options_in_the_text_exist() -> None:
    for path in PAGES:
        for ticked in TICKED.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
            if ticked.startswith("commonlore "):
                command, left = command_of(shlex.split(ticked)[1:])
                options = [option for each in command.params for option in (*each.opts, *each.secondary_opts)]
                known = {*options, "--help"}
                assert {word for word in left if word.startswith("-")} <= known, f"{path.name}: {ticked}"
                assert not left or not hasattr(command, "commands") or left == ["--help"], (
                    f"{path.name}: {ticked}"
                )
            elif match := re.fullmatch(r"make (\w+)", ticked):
                assert re.search(rf"^{match[1]}:", page("Makefile"), re.M), f"{path.name}: {ticked}"


def test_commands_that_messages_tell_to_run_exist() -> None:
    tree: Any = typer.main.get_command(app)
    for path in sorted(found for room in ROOMS for found in (ROOT / room).rglob("*.py")):
        texts = (
            node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
        )
        for name, below in TOLD.findall("\n".join(text for text in texts if isinstance(text, str))):
            assert name in tree.commands, f"{path}: commonlore {name}"
            group = getattr(tree.commands[name], "commands", None)
            assert group is None or not below or below in group, f"{path}: commonlore {name} {below}"


def test_links_lead_somewhere() -> None:
    for path in PAGES:
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            target, _, anchor = link.partition("#")
            there = path.parent / target if target else path
            assert there.exists(), f"{path.name}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
                assert anchor in {h.lower().replace(" ", "-") for h in headings}, f"{path.name}: {link}"


def test_python_snippets_compile_and_import_what_exists() -> None:
    found = list(blocks("python"))
    assert found
    for name, text in found:
        for node in ast.walk(ast.parse(text, name)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), f"{name}: {node.module}"


def test_toml_snippets_are_settings() -> None:
    known = {field.name for field in fields(Config)}
    for name, text in blocks("toml"):
        if name == "simulation.md":
            assert len(read_experiment(tomllib.loads(text)).arms) == 2
        else:
            assert set(tomllib.loads(text)) <= known, name


@pytest.mark.parametrize("name", ["README.md", "docs/design.md"])
def test_the_table_of_rooms_names_every_room(name: str) -> None:
    named = {
        match[1] for row in rows(section(page(name), "Rooms")) if (match := re.match(r"\[?`(\w+)/`", row[0]))
    }
    assert named == ROOMS
    assert all((ROOT / room / "__init__.py").is_file() for room in named)


def test_folders_that_the_readme_names_exist() -> None:
    for row in rows(section(page("README.md"), "Rooms"))[1:]:
        room = re.match(r"\[`(\w+)/`\]", row[0])
        assert room
        for folder in re.findall(r"`(\w+)/`", row[1]):
            assert (ROOT / room[1] / folder).is_dir(), f"{room[1]}/{folder}"


def test_the_table_of_experiments_names_scenarios() -> None:
    for row in rows(section(page("docs/simulation.md"), "Experiments"))[1:]:
        for name in TICKED.findall(row[0]):
            if name != "E6":  # its file names logs
                kind = read_experiment(tomllib.loads(scenario_path(name).read_text())).kind.name
                assert f"`{kind}`" == row[1], name


def test_the_table_of_settings_is_the_configuration() -> None:
    table = rows(section(page("docs/configuration.md"), "Settings"))[1:]
    written = {row[0].strip("`"): row[1].strip("`") for row in table}
    assert written == {field.name: shown(getattr(Config(), field.name)) for field in fields(Config)}
    for name, choices in CHOICES.items():
        (about,) = (row[2] for row in table if row[0] == f"`{name}`")
        assert set(choices) <= set(TICKED.findall(about)), name


def shown(value: object) -> str:
    """A default as the table writes it."""
    if value in ("", ()):
        return "none"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def test_the_table_of_variables_is_complete() -> None:
    written = set(re.findall(r"^\| `COMMONLORE_(\w+)`", page("docs/configuration.md"), re.M))
    assert written == RESERVED


def test_the_order_of_messages_is_the_transition_table() -> None:
    table = rows(section(page("docs/protocol.md"), "A conversation"))
    written = {tuple(row) for row in table if len(row) == 5 and row[0] != "state"}
    moves = [(move, after, "") for move, after in TRANSITIONS.items()]
    moves += [(move, after, "received only") for move, after in CROSSING.items()]
    assert written == {
        (state.value, role.value, event.value, after.value, note)
        for (state, role, event), after, note in moves
    }


def test_every_message_and_refusal_is_listed() -> None:
    text = section(page("docs/protocol.md"), "A conversation")
    messages = {row[0].strip("`") for row in rows(text) if len(row) == 3 and row[0] != "message"}
    assert messages == {kind.__name__ for kind in get_args(Message)}
    (codes,) = re.findall(r"Refusal codes: (.*?)\. A code", text, re.S)
    assert TICKED.findall(codes) == [code.value for code in RefusalCode]


def test_every_call_is_listed() -> None:
    table = rows(section(page("docs/protocol.md"), "Connections"))
    listed = {row[0].strip("`") for row in table if len(row) == 3 and row[0] != "call"}
    known = {attempt.INFER, paying.VOUCHERS, statements.METHOD, prefetch.METHOD, second_opinions.METHOD}
    assert listed == known | {reconcile.METHOD, reconcile.NETWORK}
    served = [path for path in (ROOT / "peer").rglob("*.py") if "rpc.serve(" in path.read_text()]
    assert len(served) == 5, "a room of its own serves calls: list them in docs/protocol.md"


@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_figures_are_those_that_were_measured(name: str) -> None:
    measured = json.loads(page("benchmarks/results/path.json"))
    found = [
        (row[i].strip("`"), row[i + 1 : i + 3]) for row in rows(page(name)) for i in (0, 1) if row[i : i + 1]
    ]
    shown_here = {figure: cells for figure, cells in found if figure in measured["ranges"]}
    assert shown_here
    for figure, (median, range_) in shown_here.items():
        assert float(median) == measured[figure], figure
        assert [float(end) for end in range_.split(" … ")] == measured["ranges"][figure], figure


def test_the_serving_tables_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.tables import tables

    shown = section(page("docs/performance.md"), "Many adapters beside other engines")
    for table in tables(json.loads(page("benchmarks/results/serving.json"))):
        assert table in shown, f"docs/performance.md lacks what `python -m benchmarks.tables` prints: {table}"


def test_the_simulator_s_table_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.simulation_table import peers_table

    assert peers_table(json.loads(page("benchmarks/results/simulation.json"))) in page("docs/performance.md")


def test_the_gas_of_proofs_against_indexes_is_what_was_measured() -> None:
    gas = json.loads(page("benchmarks/results/settlement.json"))["gas"]
    table = rows(section(page("docs/settlement.md"), "Gradient indexes"))
    told = {found[1]: row[2] for row in table if (found := re.match(r"`(Indexes\.\w+)\(", row[1]))}
    assert told == {name: f"{gas[name]:,}" for name in gas if re.fullmatch(r"Indexes\.\w+", name)}


def test_the_attribution_tables_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.influence.tables import tables

    for table in tables(json.loads(page("benchmarks/results/attribution.json"))):
        assert table in page("docs/attribution.md"), f"not what benchmarks.influence.tables prints: {table}"


def test_the_pictures_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import plots
    from benchmarks.influence import plots as influence_plots

    names = ("serving", "settlement", "attribution")
    serving, settlement, attribution = (json.loads(page(f"benchmarks/results/{one}.json")) for one in names)
    drawn = [*plots.draw(serving, settlement, tmp_path), *influence_plots.draw(attribution, tmp_path)]
    for path in drawn:
        kept = page(f"docs/pictures/{path.name}")
        assert path.read_text(encoding="utf-8") == kept, f"{path.name}: draw it again with benchmarks' plots"
    assert {path.name for path in drawn} == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}


def test_limits_are_those_of_the_code() -> None:
    table = rows(section(page("docs/protocol.md"), "Limits"))[1:]
    for name, value in table:
        module, _, constant = name.strip("`").rpartition(".")
        limit = getattr(importlib.import_module(f"commonlore.protocol.{module}"), constant)
        assert limit == int(value.replace(",", "")), name


def test_the_presets_of_splits_are_those_of_the_code() -> None:
    table = {
        found[1]: [int(cell.replace(",", "")) for cell in row[1:]]
        for row in rows(section(page("docs/design.md"), "Money"))
        if (found := re.match(r"`(\w+)`", row[0]))
    }
    presets = {
        "default": splits.DEFAULT_SPLIT,
        "openledger": splits.OPENLEDGER_SPLIT,
        "base": splits.BASE_SPLIT,
    }
    order = [field.name for field in fields(Split)]
    assert table == {name: [getattr(split, part) for part in order] for name, split in presets.items()}
