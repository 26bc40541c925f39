"""Run by `compiled` in a folder of its own: the files go through mypyc and the C compiler into `made`."""

from __future__ import annotations

import sys

from mypyc.build import mypycify
from setuptools import setup  # type: ignore[import-untyped]


def main(group: str, files: list[str]) -> None:
    """Types are checked elsewhere; here only what cannot be compiled is an error."""
    options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
    extensions = mypycify([*options, *files], opt_level="2", debug_level="0", group_name=group)
    setup(
        name="commonlore-compiled",
        packages=[],
        ext_modules=extensions,
        script_args=["--quiet", "build_ext", "--build-lib", "made", "--build-temp", "temporary"],
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
