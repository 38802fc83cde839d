"""The state of a storage root, for `sora-dagster status`, metrics and alerts."""
