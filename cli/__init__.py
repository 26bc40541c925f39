"""The `commonlore` command: parses, calls, prints. One file a command group."""
