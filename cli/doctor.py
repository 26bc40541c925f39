"""`commonlore doctor`: what is wrong with this machine, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from .ending import FAILED
from .options import HomeOption, JsonOption, home_at
from .printing import print_json


def doctor(home: HomeOption = None, json: JsonOption = False) -> None:
    """Say what is wrong with this machine and how to mend it.

    Exit status 1 when something is.
    """
    from ..peer.local.doctor import State, examine

    marks = {State.OK: "ok", State.MISSING: "--", State.WRONG: "!!"}
    findings = []
    for finding in examine(home_at(home)):
        findings.append(finding)
        if not json:
            print(f"{marks[finding.state]}  {finding.subject:<16} {finding.found}")
            if finding.remedy:
                print(f"    {'':<16} → {finding.remedy}")
    if json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.state is State.WRONG for finding in findings):
        raise typer.Exit(FAILED)
