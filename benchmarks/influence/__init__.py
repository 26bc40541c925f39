"""What `python -m benchmarks.attribution` measures with: small models whose training data is known, retrained
without parts of it, and methods that say beforehand what that will change.

Rules of this folder:
- Every method sees the same adapters, rows and questions; a score is positive where a row helped.
- Ground truth is retraining: half-subsets (LDS) and all subsets of contributors (exact Shapley values).
- What is chosen (checkpoint, damping, width) is chosen on development seeds, which are never reported as
  results.
- Each retraining is kept in a file, so that a stopped run goes on where it was.
- Peers run in their own environment as processes that read one folder and write one file (`arms`); nothing
  there imports commonlore.
"""
