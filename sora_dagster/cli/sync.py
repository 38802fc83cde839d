"""The command `sora-dagster sync`: partitions and rows of the dataset, at once."""

from __future__ import annotations

import os

import click

from sora_dagster.cli.options import (
    plain,
    readable_errors,
    settings_from_environment,
    storage_option,
    with_storage,
)


@click.command("sync")
@click.argument("prompts", required=False)
@storage_option
def sync_command(prompts: str | None, storage_url: str | None) -> None:
    """Update partitions and rows in Dagster from the dataset PROMPTS. Generates nothing.

    The dataset is that of the code location in this repository (default: SORA_PROMPTS), and the
    instance that of DAGSTER_HOME. In a project with a dataset of its own, launch the job
    sync_dataset instead.
    """
    with readable_errors():
        settings = with_storage(settings_from_environment(prompts), storage_url)
        if not os.environ.get("DAGSTER_HOME", "").strip():
            raise click.ClickException(
                "DAGSTER_HOME is not set; set it to the folder of the Dagster instance to update"
            )
        # Dagster takes seconds to import.
        import dagster as dg

        from sora_dagster.reporting.dataset_sync import sync_dataset, sync_lines

        dataset, storage = settings.dataset(), settings.storage()
        rows = dataset.load_prompts(storage)
        with dg.DagsterInstance.get() as instance:
            report = sync_dataset(
                instance, dataset, rows, storage.root(), instance.report_runless_asset_event
            )
    for line in sync_lines(report):
        click.echo(plain(line))
    click.echo(f"{report.rows} rows and remixes are up to date")
