"""Peers, a module each: `python -m benchmarks.influence.arms.MODULE METHOD EPOCH FOLDER OUT`.

Rules of this folder: it runs in `.venv-peers` and imports nothing of commonlore; it reads `task.json` and the
adapter's state in FOLDER and writes `scores` (questions, rows), positive where a row helps, and what they
cost.
"""
