"""What the command line runs on one machine: processes, a Dagster instance, a whole pipeline."""
