"""The `sora-dagster` command."""
