"""An experiment's results as one HTML file: it needs no other file and no network to be read."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from ..protocol.errors import MissingDependency
from .files import Files
from .kept import PLOT, REPORT
from .measures import Interval, interval
from .plot import draw
from .results import RunResult, by_arm
from .scenario import Experiment

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;margin:2rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p,small{color:#52606d}img{width:100%;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #e4e7eb;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:#fff}
th{color:#7b8794;font-weight:600}td small{color:#9aa5b1}
pre{background:#f5f7fa;padding:1rem;overflow-x:auto;font-size:.8rem}
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
    seeds = [result.seed for result in files.results]
    body = [
        f"<h1>{escape(experiment.about)}</h1>",
        f"<p>{escape(experiment.name)}, {len(experiment.arms)} arms, {_certainty(seeds)}</p>",
        _missing(files),
        _image(plot),
        f"<h2>Figures</h2><div class=wide>{_table(experiment, files.results)}</div>",
        f"<h2>Files</h2><pre>{escape(_files(made))}</pre>",
        f"<h2>Scenario of the first arm</h2><pre>{escape(_scenario(experiment))}</pre>",
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(experiment.name)}</title><style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


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
    return f"<p class=bad>{files.missing} runs have no result.</p><ul>{failed}</ul>"


def _image(plot: Path | None) -> str:
    if plot is None:
        return "<p>No plot: matplotlib is not installed.</p>"
    data = base64.b64encode(plot.read_bytes()).decode()
    return f'<img alt="the experiment\'s figure" src="data:image/png;base64,{data}">'


def _table(experiment: Experiment, results: Sequence[RunResult]) -> str:
    """A row an arm, a column a figure."""
    arms = by_arm(experiment, results).values()
    names = dict.fromkeys(
        name
        for seeds in arms
        for name, value in seeds[0].outcome.summary.items()
        if isinstance(value, int | float)
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in ("arm", *names))
    rows = [
        f"<tr><td>{escape(seeds[0].arm)}</td>"
        + "".join(f"<td>{_cell(interval([each.figure(name) for each in seeds]))}</td>" for name in names)
        for seeds in arms
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _cell(value: Interval) -> str:
    half = value.high - value.mean
    return f"{value.mean:,.6g}" + (f" <small>± {half:,.2g}</small>" if half > 1e-9 * abs(value.mean) else "")


def _files(made: dict[str, Any]) -> str:
    versions = [f"{name}: {made[name]}" for name in ("code_sha256", "scenario_sha256", "python", "numpy")]
    files = [f"{digest}  {name}" for name, digest in made["files"].items()]
    return "\n".join([*versions, "", *files])


def _scenario(experiment: Experiment) -> str:
    return json.dumps(asdict(experiment.arms[0].written), indent=1)


def _ranges(seeds: Sequence[int]) -> str:
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered))
