"""Pruning and verifying a storage root."""
