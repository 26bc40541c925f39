"""The contracts on revm with a lane that plays on them: for tests, figures and planted bugs."""
