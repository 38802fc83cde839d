"""`python -m sora_dagster` is the `sora-dagster` command."""

from sora_dagster.cli.main import main

if __name__ == "__main__":
    main()
