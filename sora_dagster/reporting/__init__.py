"""What is written to the event log of Dagster: clips, requests, checks and failures."""
