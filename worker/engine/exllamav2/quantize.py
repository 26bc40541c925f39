"""EXL2 artefacts from reference weights: exllamav2's own conversion in a child process, and what comes of it.

Rules of this file:
- The work of one base and one set of options has one folder, under a lock. exllamav2 writes down there how
  far it is, so that the same call goes on after a kill; a folder that is finished is published and removed.
- exllamav2's conversion ends with status 0 on most of its own errors: only its job file and its output say
  that it is done.
- What is converted is the reference: its weights are linked, its config written in the spelling that
  exllamav2 reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO

from ....protocol.errors import ConfigError, InvalidModel
from ...models.architecture import config_of
from ...models.artefacts import Artefact, artefacts_dir, loaded_files, publish_artefact
from ...models.reference import MODEL_FILE, TOKENIZER_FILE, BaseModel, Progress
from .requirements import PACKAGE, check_requirements

CONVERSION = f"{PACKAGE}.conversion.convert_exl2"
HEAD_BITS = (2, 3, 4, 5, 6, 8)
_LAYER = re.compile(r" -- Layer: model\.layers\.(\d+) \((Attention|MLP)\)")
_STAGE = re.compile(r" -- (Measuring|Quantizing|Compiling)")
_TAIL = 5


@dataclass(frozen=True, slots=True)
class Options:
    """Bits a weight, on average and in the head; calibration: rows of tokens, to measure with and to quantise
    with.
    """

    bits: float = 4.0
    head_bits: int = 6
    rows: int = 100
    length: int = 2048
    measurement_rows: int = 16

    @property
    def precision(self) -> str:
        """As the artefact's manifest has it."""
        return f"{self.bits:g}bpw-h{self.head_bits}"


def quantize_base(base: BaseModel, cache_dir: Path, options: Options, progress: Progress) -> Artefact:
    """Convert a base to EXL2. Minutes to hours on a GPU; called again, it goes on where it was.

    Raises ConfigError for options that exllamav2 refuses, MissingDependency where it cannot run, InvalidModel
    when the conversion fails.
    """
    check_options(options)
    check_requirements()
    return convert(base, cache_dir, options, progress, [sys.executable, "-m", CONVERSION])


def check_options(options: Options) -> None:
    """Raises ConfigError."""
    if not 2 <= options.bits <= 8:
        raise ConfigError(f"bits a weight are {options.bits:g}; EXL2 has 2 to 8")
    if options.head_bits not in HEAD_BITS:
        raise ConfigError(f"head bits are {options.head_bits}; EXL2 has {', '.join(map(str, HEAD_BITS))}")


def convert(
    base: BaseModel, cache_dir: Path, options: Options, progress: Progress, command: Sequence[str]
) -> Artefact:
    """Run the conversion `command` on a base and publish its output."""
    with _work_dir(base, cache_dir, options) as work:
        if not _is_finished(work):
            _prepare(base, work)
            _run([*command, *_arguments(work, options)], work, base, progress)
        output = work / "output"
        for path in set(output.iterdir()) - set(loaded_files(output)):
            path.unlink()  # copies of what the reference has
        artefact = publish_artefact(output, cache_dir, base.id, options.precision)
        shutil.rmtree(work)
        return artefact


def library_config(base: BaseModel) -> str:
    """A config.json as exllamav2 0.3.2 reads it: rotary embedding under its older names, no window (the
    context is cut to it).
    """
    config = config_of(base.manifest.family, base.manifest.settings)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        config["rope_scaling"] = rope
    config["max_position_embeddings"] = base.architecture.max_positions
    return json.dumps({name: value for name, value in config.items() if name != "sliding_window"}, indent=1)


@contextmanager
def _work_dir(base: BaseModel, cache_dir: Path, options: Options) -> Iterator[Path]:
    key = hashlib.sha256(repr((base.id, astuple(options))).encode()).hexdigest()[:16]
    work = artefacts_dir(cache_dir) / f".work-{key}"
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = work.with_suffix(".lock").open("w")
    except OSError as wrong:
        raise ConfigError(f"cannot write {work}: {wrong.strerror}; set cache_dir") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"this base is being quantised already, in {work}") from None
        work.mkdir(exist_ok=True)
        yield work


def _prepare(base: BaseModel, work: Path) -> None:
    """The input as exllamav2 wants it, and no half output of an earlier run."""
    for name in ("input", "output"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir()
    (work / "job").mkdir(exist_ok=True)
    for name in (MODEL_FILE, TOKENIZER_FILE, "tokenizer_config.json"):
        os.symlink(base.directory.resolve() / name, work / "input" / name)
    (work / "input" / "config.json").write_text(library_config(base))


def _arguments(work: Path, options: Options) -> list[str]:
    named: dict[str, object] = {
        "-i": work / "input",
        "-o": work / "job",
        "-cf": work / "output",
        "-b": f"{options.bits:g}",
        "-hb": options.head_bits,
        "-r": options.rows,
        "-mr": options.measurement_rows,
        "-l": options.length,
        "-ml": options.length,
    }
    return [str(part) for pair in named.items() for part in pair]


def _run(command: Sequence[str], work: Path, base: BaseModel, progress: Progress) -> None:
    """Raises InvalidModel unless the child has finished its job."""
    log = work / "conversion.log"
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with log.open("w", encoding="utf-8") as file, child:
        try:
            assert child.stdout is not None  # asked for above
            _follow(child.stdout, file, 2 * base.architecture.layers, progress)
            status = child.wait()
        finally:
            child.kill()
    if status or not _is_finished(work):
        lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        raise InvalidModel(
            f"quantising {base.label.name!r} ended with status {status}: {' | '.join(lines[-_TAIL:])}; "
            f"see {log}; the same command goes on from there"
        )


def _follow(output: IO[str], log: IO[str], blocks: int, progress: Progress) -> None:
    stage, done = "starting", 0
    progress(stage, 0, 1)
    for line in output:
        log.write(line)
        if found := _STAGE.match(line):
            progress(stage, max(done, 1), max(done, 1))
            stage, done = found[1].lower(), 0
        elif found := _LAYER.match(line):
            done = 2 * int(found[1]) + (found[2] == "MLP") + 1
        progress(stage, done, max(blocks, done))
    progress(stage, max(done, 1), max(done, 1))


def _is_finished(work: Path) -> bool:
    try:
        job = json.loads((work / "job" / "job_new.json").read_text())
        return job["progress"] == "finished" and len(loaded_files(work / "output")) > 1
    except (OSError, ValueError, KeyError, TypeError):
        return False
