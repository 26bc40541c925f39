"""LoRA adapters on this machine: strict safetensors validation and the tiered store."""
