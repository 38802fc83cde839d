"""The jobs of a prompt dataset."""
