"""What runs on the machine with the model: engines, adapters, training, attribution."""
