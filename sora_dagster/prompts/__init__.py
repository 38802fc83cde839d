"""Prompt datasets: where rows are read from, and the clips that they become."""
