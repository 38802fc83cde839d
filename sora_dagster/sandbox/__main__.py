"""`python -m sora_dagster.sandbox`: start a local Runware."""

from sora_dagster.sandbox.command import sandbox_command

if __name__ == "__main__":
    sandbox_command(prog_name="sora-dagster sandbox")
