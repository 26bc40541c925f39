"""HTTP in front of a node: the OpenAI-compatible API, the local control API, health and metrics."""
