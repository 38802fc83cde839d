"""The reports of a dataset as one multi-asset: gallery, costs and their summary."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dagster as dg

from sora_dagster.assets.costs import write_cost_report, write_costs
from sora_dagster.assets.gallery import write_gallery
from sora_dagster.dataset import CODE_VERSION, VideoDataset
from sora_dagster.generation.library.costs import cost_table_key
from sora_dagster.generation.library.library_scan import LibraryScan, scan_library
from sora_dagster.resources import ClipStorageResource, resource_of
from sora_dagster.resources.run_settings import settings_tag


def build_report_assets(
    dataset: VideoDataset,
    *,
    boards: Sequence[str] = (),
    also_refresh_on: Sequence[dg.AssetKey] = (),
    cron_schedule: str = "*/10 * * * *",
    title: str = "Generated clips",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.AssetsDefinition:
    """The assets `gallery`, `generation_costs` and `cost_report` of a dataset.

    They are one step, which reads the storage root once for those of them that are selected.

    Arguments:
        dataset: the dataset.
        boards: names of the storyboards to include. Other datasets in the same storage root have
            separate reports.
        also_refresh_on: further assets whose updates refresh the reports, such as the shots of a
            storyboard. They are not dependencies, so that the lineage of a storyboard is only its
            own.
        cron_schedule: the shortest interval between refreshes.
        title: heading of the gallery.
        now: a clock.

    The assets need the resource `clip_storage`.

    Example:
        >>> reports = build_report_assets(VideoDataset("prompts.yaml"))
        >>> sorted(key.to_user_string() for key in reports.keys)
        ['cost_report', 'gallery', 'generation_costs']
    """
    storage_key = dataset.resource_keys.clip_storage
    costs, report = dataset.asset_key("generation_costs"), dataset.asset_key("cost_report")
    gallery = dataset.asset_key("gallery")
    table_key = cost_table_key(dataset.definition_name("generation_costs"))
    plot_key = f"reports/{dataset.definition_name('cost_report')}.png"
    refresh = at_most_every(cron_schedule, also_refresh_on=also_refresh_on)

    def spec(key: dg.AssetKey, description: str, *, kind: str, **fields: Any) -> dg.AssetSpec:
        return dg.AssetSpec(
            key,
            **dataset.labels,
            code_version=CODE_VERSION,
            kinds={kind},
            skippable=True,
            description=description,
            **fields,
        )

    @dg.multi_asset(
        name=dataset.definition_name("reports"),
        can_subset=True,
        required_resource_keys={storage_key},
        op_tags=settings_tag(),
        specs=[
            spec(
                gallery,
                "A page to browse, play and filter all clips. It is in the storage root, and also "
                "works from a copy.",
                kind="html",
                deps=[dataset.clips, dataset.remixes, dataset.prompts, dataset.remix_prompts],
                automation_condition=refresh,
            ),
            spec(
                costs,
                "Cost of every task: one row per task, with its clip, take, model, estimate, cost, "
                "outcome and run.",
                kind="parquet",
                deps=[dataset.clips, dataset.remixes],
                automation_condition=refresh,
            ),
            spec(
                report,
                "Spending by day, model, dataset and tag, and what was wasted.",
                kind="report",
                deps=[costs],
                automation_condition=dg.AutomationCondition.eager(),
            ),
        ],
    )
    def reports(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        root = resource_of(context, storage_key, ClipStorageResource).root()

        @cache
        def scan() -> LibraryScan:
            return scan_library(root, dataset.name, boards=boards)

        def make_gallery() -> dict[str, Any]:
            return write_gallery(root, dataset, scan(), title=title, generated_at=now())

        def make_costs() -> dict[str, Any]:
            total, metadata = write_costs(root, table_key, scan())
            unknown = f", and {total.unknown} of unknown cost" if total.unknown else ""
            context.log.info(f"{total.tasks} tasks, {total.total_usd:.2f} USD{unknown}")
            return metadata

        def make_report() -> dict[str, Any]:
            return write_cost_report(root, table_key, plot_key, dataset.catalogue)

        failures: dict[dg.AssetKey, Exception] = {}
        for key, make in ((gallery, make_gallery), (costs, make_costs), (report, make_report)):
            if key not in context.selected_asset_keys or (key == report and costs in failures):
                continue
            try:
                metadata = make()
            except Exception as error:  # noqa: BLE001 - one report must not prevent the next
                context.log.error(f"{key.to_user_string()}: {error}")
                failures[key] = error
            else:
                yield dg.MaterializeResult(key, metadata=metadata)
        if failures:
            raise next(iter(failures.values()))

    return reports


def at_most_every(
    cron_schedule: str, *, also_refresh_on: Sequence[dg.AssetKey] = ()
) -> dg.AutomationCondition[Any]:
    """Refresh a report at the next tick of a cron schedule after its inputs changed.

    Arguments:
        cron_schedule: the shortest interval.
        also_refresh_on: unpartitioned assets that the report shows and does not depend on.
    """
    condition = dg.AutomationCondition
    changed: dg.AutomationCondition[Any] = condition.any_deps_updated()
    for key in also_refresh_on:
        changed = changed | condition.asset_matches(key, condition.newly_updated())
    ticked: dg.AutomationCondition[Any] = condition.cron_tick_passed(cron_schedule)
    return (
        changed.since_last_handled() & ticked.since_last_handled() & ~condition.in_progress()
    ).with_label(f"inputs changed since the last run, and a tick of {cron_schedule} passed")
