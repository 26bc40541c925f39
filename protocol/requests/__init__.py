"""What a client asks for, what its prompt is made of, and whether it may be served."""
