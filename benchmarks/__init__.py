"""Measurements of the running thing, each a program: `python -m benchmarks.path` and
`python -m benchmarks.serving` from the repository's root. Not part of the package.

Rules of this folder: every arm is a process of its own and does what a user's would; arms that are
compared take turns, on the same questions; a figure is the median of its rounds and travels with their
range; the processors' time is given beside the wall's, because a shared machine falsifies only the
second.
"""
