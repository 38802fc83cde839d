"""From a pending task to a stored clip: poll, fetch, store, retry."""
