"""What the command line prints, whatever the text holds and whatever the terminal can show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from sora_dagster.cli.console import (
    ProgressBar,
    changes_line,
    print_changes,
    print_line,
    print_result,
    purchases_line,
)
from sora_dagster.cli.options import one_line
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.local.progress import ClipProgress, ClipState, PipelineOptions, Purchase
from sora_dagster.local.waiting import StallTimeout
from sora_dagster.runware.pricing import Price
from tests.generation.stored_takes import stored_take

REASON = "its video is [/video/mp4], not [bold]video[/bold] :fox:\nat \x1b[2Jhttps://a.example"


def console(encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    body = io.BytesIO()
    file = io.TextIOWrapper(body, encoding=encoding, errors="backslashreplace", write_through=True)
    return Console(file=file, width=160), body


def clip(
    name: str,
    state: ClipState,
    *,
    take: int = 0,
    reason: str = "",
    changes: str = "",
    purchase: Purchase | None = None,
    price_usd: float | None = None,
) -> ClipProgress:
    return ClipProgress("clips", name, state, take, reason, changes, purchase, price_of(price_usd))


def price_of(usd: float | None) -> Price | None:
    return None if usd is None else Price(usd=usd, certainty="published")


def changed(name: str, price_usd: float = 1.2) -> ClipProgress:
    return clip(
        name,
        ClipState.CHANGED,
        take=1,
        changes="its row",
        purchase=Purchase.CHANGED,
        price_usd=price_usd,
    )


FOLLOWING = clip("fox|night", ClipState.STORED, take=1, purchase=Purchase.FOLLOWS, price_usd=1.2)


@dataclass
class Result:
    """What a run of the pipeline brought."""

    progress: Sequence[ClipProgress]
    manifests: dict[tuple[str, str], ClipManifest] = field(default_factory=dict)
    takes_before: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    posts: dict[str, int] = field(
        default_factory=lambda: {"submissions": 0, "polls": 0, "other": 0}
    )
    stalled_minutes: float | None = None
    gallery_uri: str | None = None
    is_complete: bool = True
    costs_usd: tuple[float, ...] = ()
    paid_now_usd: tuple[float, ...] = ()


def printed(result: Result, options: PipelineOptions | None = None) -> str:
    screen, body = console()
    print_result(
        screen,
        result,  # type: ignore[arg-type]
        options or PipelineOptions(),
        storage_url="file:///clips",
    )
    return body.getvalue().decode()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_text_from_outside_is_printed_literally_and_without_escape_sequences(encoding: str) -> None:
    screen, body = console(encoding)
    with ProgressBar(screen) as bar:
        bar.show([clip("fuchs-ü", ClipState.GENERATING)])
        bar.show([clip("fuchs-ü", ClipState.GENERATING, reason=REASON)])
    print_line(screen, REASON)
    text = body.getvalue().decode(encoding)
    assert text.count("its video is [/video/mp4], not [bold]video[/bold] :fox: at") == 2
    assert "\x1b" not in text
    assert ("fuchs-ü" if encoding == "utf-8" else "fuchs-\\xfc") in text


def test_characters_that_reverse_or_hide_text_are_removed() -> None:
    assert one_line("a\u202eb\u200bc\ud800d\r\ne") == "a b c d e"


def test_each_reason_is_printed_once_as_soon_as_it_is_known() -> None:
    screen, body = console()
    slow = clip("fox", ClipState.GENERATING, reason="Runware is still generating it")
    with ProgressBar(screen) as bar:
        bar.show([clip("fox", ClipState.GENERATING)])
        bar.show([slow])
        bar.show([slow])
        bar.show([clip("fox", ClipState.FAILED, reason="the prompt was moderated")])
        bar.show([clip("fox", ClipState.FAILED, reason="the prompt was moderated")])
    lines = body.getvalue().decode().splitlines()
    assert lines.count("fox: Runware is still generating it") == 1
    assert lines.count("fox: the prompt was moderated") == 1


def test_failures_of_earlier_runs_are_not_printed_as_new() -> None:
    screen, body = console()
    with ProgressBar(screen) as bar:
        bar.show([clip("fox", ClipState.FAILED, reason="the prompt was moderated")])
    assert "moderated" not in body.getvalue().decode()


def test_purchases_are_listed_by_reason() -> None:
    progress = [
        clip("new", ClipState.WAITING, purchase=Purchase.NEW, price_usd=1.2),
        clip("new2", ClipState.WAITING, purchase=Purchase.NEW, price_usd=1.2),
        clip("raised", ClipState.WAITING, purchase=Purchase.RAISED_TAKE, price_usd=2.0),
        changed("fox"),
        FOLLOWING,
    ]
    assert purchases_line(progress, PipelineOptions()) == (
        "To generate: 2 new clips (2.40 USD), 1 raised take (2.00 USD). Estimated total: 4.40 USD"
    )
    assert purchases_line(progress, PipelineOptions(regenerate_changed=True)) == (
        "To generate: 2 new clips (2.40 USD), 1 raised take (2.00 USD), 1 changed row (1.20 USD), "
        "1 remix of a new video (1.20 USD). Estimated total: 6.80 USD"
    )
    assert purchases_line([changed("fox")], PipelineOptions()) == ""


def test_failed_clips_are_bought_only_with_retry_failed() -> None:
    failed = clip("fox", ClipState.FAILED, purchase=Purchase.RETRY, price_usd=1.2)
    assert purchases_line([failed], PipelineOptions(regenerate_changed=True)) == ""
    assert purchases_line([failed], PipelineOptions(retry_failed=True)) == (
        "To generate: 1 failed clip (1.20 USD). Estimated total: 1.20 USD"
    )


def test_changed_rows_are_counted_with_the_price_of_new_takes() -> None:
    assert changes_line([changed("fox"), changed("owl")]) == (
        "2 rows changed; new takes would cost 2.40 USD"
    )
    assert changes_line([changed("fox"), FOLLOWING]) == (
        "1 row changed and 1 remix depends on new takes; new takes would cost 2.40 USD"
    )
    assert changes_line([FOLLOWING]) == (
        "1 remix depends on new takes; new takes would cost 1.20 USD"
    )


def test_a_long_list_of_changed_rows_is_shortened() -> None:
    screen, body = console()
    print_changes(screen, [changed(f"clip{number}") for number in range(23)])
    lines = body.getvalue().decode().splitlines()
    assert len(lines) == 21
    assert lines[0] == "  clip0: its row changed; take 1 is kept; a new take would cost 1.20 USD"
    assert lines[-1] == "  and 3 more"


def test_the_result_lists_changed_rows_their_prices_and_the_option_to_use(
    ledger: Ledger,
) -> None:
    manifest = stored_take(ledger)
    result = Result(
        [changed("fox")],
        manifests={("clips", "fox"): manifest},
        takes_before={("clips", "fox"): 1},
    )
    text = printed(result)
    assert "1 row changed; new takes would cost 1.20 USD." in text
    assert "--regenerate-changed" in text
    assert "fox: its row changed; take 1 is kept; a new take would cost 1.20 USD" in text
    assert "Nothing was generated or paid" in text
    assert "--regenerate-changed" not in printed(result, PipelineOptions(regenerate_changed=True))


def test_the_result_shows_the_reason_of_each_clip_that_is_not_stored() -> None:
    text = printed(
        Result(
            [
                clip("fox", ClipState.GENERATING, reason="Runware is still generating it"),
                clip(
                    "owl",
                    ClipState.FAILED,
                    reason="[/video/mp4] was refused",
                    purchase=Purchase.RETRY,
                ),
                clip("elk", ClipState.WAITING),
            ],
            is_complete=False,
            problems=("request_clips: [/over] the limit\nsecond line",),
        )
    )
    lines = text.splitlines()
    assert "fox: generating: Runware is still generating it" in lines
    assert "owl: failed: [/video/mp4] was refused" in lines
    assert "elk: waiting: not finished; run the same command again to continue" in lines
    assert (
        "To request 1 failed clip again, which may cost again, run the same command with "
        "--retry-failed."
    ) in lines
    assert "request_clips: [/over] the limit" in lines
    assert "second line" in lines


def test_the_result_reports_each_failure_once() -> None:
    result = Result(
        [
            clip("fox", ClipState.FAILED, reason="the prompt was moderated."),
            clip("owl", ClipState.FAILED, reason="the seed is too large."),
        ],
        is_complete=False,
        problems=(
            "2 failed (0 requested):\n"
            "- fox: refused, nothing paid: the prompt was moderated.\n"
            "- owl: refused, nothing paid: the seed is too large.",
            "2 failed (0 stored):\n- fox: the prompt was moderated.\n- elk: it is too slow.",
        ),
    )
    lines = printed(result).splitlines()
    assert [line for line in lines if "moderated" in line] == [
        "fox: failed: the prompt was moderated."
    ]
    assert [line for line in lines if "seed is" in line] == ["owl: failed: the seed is too large."]
    assert not any("0 requested" in line for line in lines)
    assert lines[-2:] == ["2 failed (0 stored):", "- elk: it is too slow."]


def test_a_failed_run_is_printed_without_the_reasons_that_were_printed_with_their_clips() -> None:
    screen, body = console()
    with ProgressBar(screen) as bar:
        bar.show([clip("fox", ClipState.GENERATING)])
        bar.show([clip("fox", ClipState.FAILED, reason="its video is [/video/mp4].")])
        bar.print("collect_clips failed: 1 failed (1 stored):\n- fox: its video is [/video/mp4].")
        bar.print("collect_clips failed: its process ended")
    lines = body.getvalue().decode().splitlines()
    assert [line for line in lines if "[/video/mp4]" in line] == ["fox: its video is [/video/mp4]."]
    assert lines[-1] == "collect_clips failed: its process ended"


def test_a_stall_is_reported_with_how_to_continue() -> None:
    text = printed(
        Result([clip("fox", ClipState.GENERATING)], is_complete=False, stalled_minutes=45)
    )
    assert "Nothing changed for 45 min" in text
    assert "waiting for 1 clip, listed below. Nothing is lost" in text
    assert "run the same command again" in text
    assert "--stall-timeout-minutes" in text


# How long it is waited


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def patience(clock: Clock) -> StallTimeout:
    return StallTimeout(quiet_seconds=60, stall_seconds=2700, elapsed=clock)


def test_waiting_continues_while_a_slow_task_is_outstanding() -> None:
    clock = Clock()
    waiting = patience(clock)
    for _ in range(40):
        clock.now += 60
        assert waiting.after_reading(["generating"], is_busy=True) == "wait"


def test_waiting_ends_when_nothing_is_outstanding_for_a_while() -> None:
    clock = Clock()
    waiting = patience(clock)
    clock.now = 50
    assert waiting.after_reading(["waiting"], is_busy=True) == "wait"
    clock.now = 105
    assert waiting.after_reading(["waiting"], is_busy=False) == "wait"
    clock.now = 111
    assert waiting.after_reading(["waiting"], is_busy=False) == "quiet"


def test_waiting_ends_when_nothing_changes_for_long_but_a_new_reason_is_a_change() -> None:
    clock = Clock()
    waiting = patience(clock)
    waiting.after_reading(["generating", ""], is_busy=True)
    clock.now = 2600
    assert waiting.after_reading(["generating", "it is slow"], is_busy=True) == "wait"
    clock.now = 5200
    assert waiting.after_reading(["generating", "it is slow"], is_busy=True) == "wait"
    clock.now = 5301
    assert waiting.after_reading(["generating", "it is slow"], is_busy=True) == "stalled"
