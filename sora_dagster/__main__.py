"""`python -m sora_dagster` is the `sora-dagster` command."""

from sora_dagster.cli.main import run_process

if __name__ == "__main__":
    run_process()
