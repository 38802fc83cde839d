"""The life of a clip: requested, collected, stored. Nothing here imports Dagster."""
