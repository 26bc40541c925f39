"""A subject on its way to the attribution process, and there."""

from __future__ import annotations

from pathlib import Path

from .subject import Subject
from .wire import LoadSubject


def load_subject(call: int, subject: Subject) -> LoadSubject:
    """The command that makes it known."""
    return LoadSubject(
        call,
        subject.adapter,
        str(subject.early),
        subject.rank,
        subject.alpha,
        subject.targets,
        subject.seed,
        subject.width,
        str(subject.curvature) if subject.curvature is not None else None,
        subject.beacon,
        subject.base,
    )


def subject_in(command: LoadSubject) -> Subject:
    """What such a command is about."""
    return Subject(
        command.adapter,
        Path(command.early),
        command.rank,
        command.alpha,
        command.targets,
        command.seed,
        command.width,
        Path(command.curvature) if command.curvature is not None else None,
        command.beacon,
        command.base,
    )
