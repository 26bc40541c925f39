"""The engine on exllamav2: a base quantised to EXL2 on an NVIDIA GPU, another adapter for every row."""
