"""The assets of a prompt dataset."""
