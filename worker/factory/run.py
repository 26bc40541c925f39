"""The trainer's process: `python -m commonlore.worker.factory.run JOB_DIR`, progress as JSON lines on
standard output.

Rules of this file:
- One JSON object a line: progress as `TrainProgress`; the last line of a failed run is {"error": code,
  "message": text} and the exit status 1. Nothing else is printed there; libraries' chatter goes to standard
  error.
- With `--merge`, the folder holds a merge instead of a training job; with `--admit`, an admission test.
- With `--with-parent`, the process ends when its standard input does: a killed parent leaves no trainer
  behind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TextIO

from ...protocol.errors import CommonloreError
from .job import TrainProgress, read_job
from .merge_job import read_merge


def main(arguments: list[str] | None = None) -> int:
    """Run one job. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="commonlore.worker.factory.run", description="Train one job's adapter, or merge adapters."
    )
    parser.add_argument("job_dir", type=Path)
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--merge", action="store_true", help="merge adapters instead of training one")
    kind.add_argument("--admit", action="store_true", help="measure rows instead of training on them")
    options = parser.parse_args(arguments)
    lines, sys.stdout = sys.stdout, sys.stderr
    if options.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = _merge if options.merge else _admit if options.admit else _train
        work(options.job_dir, lines)
    except CommonloreError as wrong:
        _print(lines, {"error": wrong.code, "message": str(wrong)})
        return 1
    return 0


def _train(job_dir: Path, lines: TextIO) -> None:
    _use_threads(read_job(job_dir).config.threads)
    from .train import run_job

    run_job(job_dir, partial(_report, lines))


def _merge(job_dir: Path, lines: TextIO) -> None:
    _use_threads(read_merge(job_dir).threads)
    from .merge import run_merge

    run_merge(job_dir, partial(_report, lines))


def _admit(job_dir: Path, lines: TextIO) -> None:
    from .admit import run_admission

    run_admission(job_dir, partial(_report, lines))


def _use_threads(threads: int) -> None:
    """torch reads the number of threads when it is imported: call this before."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _report(lines: TextIO, progress: TrainProgress) -> None:
    _print(lines, asdict(progress))


def _print(lines: TextIO, content: dict[str, object]) -> None:
    lines.write(json.dumps(content) + "\n")
    lines.flush()


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
