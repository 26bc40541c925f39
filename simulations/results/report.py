"""An experiment's results as one HTML file: it needs no other file and no network to be read."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from ...protocol.errors import MissingDependency
from ..experiment.measures import Interval, interval
from ..experiment.scenario import Experiment
from ..experiment.sources import VERSIONED
from .files import Files
from .formats import ArmResult, by_arm, write_bytes
from .kept import PLOT, REPORT
from .plot import draw

Arms = dict[str, list[ArmResult]]
_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2933;--faint:#52606d;--line:#e4e7eb;--box:#f5f7fa;
--bad:#c92a2a}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e4e7eb;--faint:#9aa5b1;--line:#323a44;
--box:#1e242b;--bad:#ff8787}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;
max-width:78rem;padding:0 1rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .2rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p,small,summary{color:var(--faint)}summary{cursor:pointer;margin:.6rem 0}
.bad{color:var(--bad);font-weight:600}
.wide{overflow-x:auto}img{display:block;width:100%;min-width:44rem;height:auto;background:#fff;border-radius:6px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
th{color:var(--faint);font-weight:600}
pre{background:var(--box);padding:1rem;overflow-x:auto;font-size:.8rem;border-radius:6px}
@media(max-width:40rem){th:first-child,td:first-child{white-space:normal;min-width:8rem;max-width:9rem;
overflow-wrap:anywhere;padding-left:0}td{vertical-align:top}}
"""


def write_pictures(experiment: Experiment, files: Files) -> str:
    """Draw results that were written and report on them: what was made, in words. Without matplotlib the
    results stand in the report's table all the same."""
    plot, report = files.folder / PLOT, files.folder / REPORT
    try:
        draw(experiment, files.results, plot)
    except MissingDependency as error:
        write_report(experiment, files, None, report)
        return f"{report}, no plot ({error})"
    write_report(experiment, files, plot, report)
    return f"{plot}, {report}"


def write_report(experiment: Experiment, files: Files, plot: Path | None, path: Path) -> None:
    """The report of results that were written."""
    made = json.loads(files.manifest.read_text(encoding="utf-8"))
    seeds, arms = [result.seed for result in files.results], by_arm(experiment, files.results)
    body = [
        f"<h1>{escape(experiment.about or experiment.name)}</h1>",
        f"<p>{escape(experiment.name)}, {_arms(experiment)}, {_certainty(seeds)}</p>",
        _missing(files),
        _image(plot),
        f"<h2>Figures</h2>{figures_table(arms, experiment.kind.columns)}",
        _folded("All figures", figures_table(arms, _figures(arms))),
        f"<h2>What it was made of</h2><pre>{escape(_made_of(made))}</pre>",
        _folded("Files and their sha-256", f"<pre>{escape(_files(made))}</pre>"),
        _folded("Scenario of the first arm", f"<pre>{escape(_scenario(experiment))}</pre>"),
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(experiment.name)}</title><style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
    write_bytes(path, page.encode())


def _certainty(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}: one seed has no interval."
    return f"seeds {_ranges(seeds)}: means with 95 % confidence intervals (Student's t)."


def _missing(files: Files) -> str:
    if not files.missing:
        return ""
    failed = "".join(
        f"<li>{escape(each.arm)}, seed {each.seed}: {escape(each.reason)}</li>" for each in files.failed
    )
    runs = "1 run has" if files.missing == 1 else f"{files.missing} runs have"
    return f"<p class=bad>{runs} no result.</p><ul>{failed}</ul>"


def _image(plot: Path | None) -> str:
    if plot is None:
        return "<p>No plot: matplotlib is not installed.</p>"
    data = base64.b64encode(plot.read_bytes()).decode()
    return f'<div class=wide><img alt="the experiment\'s figure" src="data:image/png;base64,{data}"></div>'


def _arms(experiment: Experiment) -> str:
    count = len(experiment.arms)
    return f"{count} arm{'s' * (count > 1)}"


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>"


def _figures(arms: Arms) -> list[str]:
    """The names of all figures that are numbers."""
    rows = (each.outcome.summary.items() for seeds in arms.values() for each in seeds)
    return list(dict.fromkeys(name for row in rows for name, value in row if isinstance(value, int | float)))


def figures_table(arms: Arms, names: Sequence[str]) -> str:
    """A row an arm, a column a figure."""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("arm", *names))
    rows = [
        f"<tr><td>{escape(arm)}</td>"
        + "".join(f"<td>{_cell(interval([each.figure(name) for each in seeds]))}</td>" for name in names)
        for arm, seeds in arms.items()
    ]
    return f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _cell(value: Interval) -> str:
    """The mean to as many places as its interval leaves sense in."""
    half = value.high - value.mean
    if half <= 1e-9 * abs(value.mean):
        return f"{value.mean:,.0f}" if value.mean == round(value.mean) else f"{value.mean:,.6g}"
    places = min(6, max(0, 1 - math.floor(math.log10(half))))
    return f"{value.mean:,.{places}f} <small>± {half:,.{places}f}</small>"


def _made_of(made: dict[str, Any]) -> str:
    names = ("code_sha256", "scenario_sha256", *VERSIONED)
    return "\n".join(f"{name}: {made[name]}" for name in names if name in made)


def _files(made: dict[str, Any]) -> str:
    return "\n".join(f"{digest}  {name}" for name, digest in made["files"].items())


def _scenario(experiment: Experiment) -> str:
    return json.dumps(asdict(experiment.arms[0].written), indent=1)


def _ranges(seeds: Sequence[int]) -> str:
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered))
