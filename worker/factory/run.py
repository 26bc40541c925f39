"""The trainer's process: `python -m commonlore.worker.factory.run JOB_DIR`, progress as JSON lines on
standard output.

Rules of this file:
- One JSON object a line: progress as `TrainProgress`; the last line of a failed run is {"error": code,
  "message": text} and the exit status 1. Nothing else is printed there; libraries' chatter goes to standard
  error.
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
from pathlib import Path
from typing import TextIO

from ...protocol.errors import CommonloreError
from .job import TrainProgress, read_job


def main(arguments: list[str] | None = None) -> int:
    """Run one job. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="commonlore.worker.factory.run", description="Train one job's adapter."
    )
    parser.add_argument("job_dir", type=Path)
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    lines, sys.stdout = sys.stdout, sys.stderr
    if options.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _train(options.job_dir, lines)
    except CommonloreError as wrong:
        _print(lines, {"error": wrong.code, "message": str(wrong)})
        return 1
    return 0


def _train(job_dir: Path, lines: TextIO) -> None:
    threads = read_job(job_dir).config.threads
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    from .train import run_job  # torch reads the number of threads when it is imported

    def report(progress: TrainProgress) -> None:
        _print(lines, asdict(progress))

    run_job(job_dir, report)


def _print(lines: TextIO, content: dict[str, object]) -> None:
    lines.write(json.dumps(content) + "\n")
    lines.flush()


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
