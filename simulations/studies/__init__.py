"""The kinds of experiment, each with its configuration and its run."""
