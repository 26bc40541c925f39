"""The ModelFactory: training LoRA adapters on Datanet rows, with held-out loss and resumable runs."""
