"""The engines under measurement, each a process that is told what to do line by line.

Rules of this folder:
- `ours` runs in this project's environment, the others in the one that `make bench-peers` makes; none of
  those imports anything of this project but `benchmarks.engines.jobs` and `benchmarks.child`.
- All use the same clocks, around the same calls (`turns`): what a prompt costs beside the engine is nothing,
  since prompts come as token ids.
- An engine is set up as its own documentation advises for this machine, but installed as it is published:
  llama.cpp's wheel is built for AVX2 and not for this processor, and so is not at its best here. What an
  engine cannot do is said as absent, with the reason, and never replaced by something else.
"""
