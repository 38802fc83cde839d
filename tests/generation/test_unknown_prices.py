"""A model whose catalogue entry has no price: what the API's dry run says, or nothing is bought."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.library.clip_checks import build_clip_checks
from sora_dagster.generation.library.costs import cost_rows, sum_costs
from sora_dagster.generation.library.library_scan import scan_library
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.selection import select_clips
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.catalogue.prices import Prices
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip as any_clip
from tests.generation.requesting import collect, quick_generator, request_clips
from tests.protocol.ending_early import CrashError, crashing_at
from tests.protocol.families import CATALOGUE, PRICE_USD, TINY
from tests.protocol.faulty_sandbox import FaultySandbox, faulty_sandbox, quick_requests

UNPRICED = CATALOGUE.extended([TINY.model_copy(update={"prices": Prices(certainty="unknown")})])


@pytest.fixture(scope="module")
def _running() -> Iterator[FaultySandbox]:
    with quick_requests(), faulty_sandbox() as running:
        yield running


@pytest.fixture
def api(_running: FaultySandbox) -> Iterator[FaultySandbox]:
    _running.clear_faults()
    yield _running
    _running.clear_faults()


class SilentAboutPrices(httpx.HTTPTransport):
    """A dry run that is accepted, and whose answer has no price."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if "X-Runware-Dry-Run" not in request.headers:
            return response
        response.read()
        answer = json.loads(response.content)
        for row in answer.get("data", []):
            row.pop("cost", None)
        return httpx.Response(response.status_code, json=answer)


class RefusesOne(httpx.HTTPTransport):
    """A dry run that refuses one prompt."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "X-Runware-Dry-Run" in request.headers:
            for task in json.loads(request.read()):
                if "refused" in task.get("positivePrompt", ""):
                    error = {
                        "code": "invalidPositivePrompt",
                        "message": "the prompt is not allowed",
                        "parameter": "positivePrompt",
                        "taskUUID": task["taskUUID"],
                    }
                    return httpx.Response(400, json={"errors": [error]})
        return super().handle_request(request)


@pytest.fixture
def generate(api: FaultySandbox, root: StorageRoot) -> Iterator[Callable[..., Generator]]:
    """Makes generators whose catalogue does not know the price of the tiny model."""
    made: list[Generator] = []

    def make(
        *,
        storage: StorageRoot = root,
        transport: httpx.BaseTransport | None = None,
        catalogue: Catalogue = UNPRICED,
        **settings: Any,
    ) -> Generator:
        generator = quick_generator(
            api.base_url, storage, catalogue=catalogue, transport=transport, **settings
        )
        made.append(generator)
        return generator

    yield make
    for generator in made:
        generator.close()


def clip(clip_id: str = "fox", **fields: object) -> ClipRequest:
    of_model = {"model": TINY.air, "size": "160x90", "duration_seconds": 1}
    return any_clip(clip_id, **{**of_model, **fields})


def attempt_of(generator: Generator, clip_id: str = "fox") -> AttemptRecord:
    return generator.ledger.takes("clips", clip_id)[-1].latest


def budget_of(generator: Generator) -> Budget:
    return Budget(generator.ledger, store_time=generator.ledger.root.store_time)


def charges(api: FaultySandbox) -> int:
    return len(api.books()["charges"])


def test_under_a_limit_the_price_of_the_dry_run_counts(
    generate: Callable[..., Generator],
) -> None:
    generator = generate()
    (result,) = request_clips(generator, clip(), run_limit_usd=1.0)
    assert result.state is RequestState.SUBMITTED
    estimate = attempt_of(generator).estimate
    assert (estimate.usd, estimate.priced_by) == (pytest.approx(PRICE_USD), "api")
    assert budget_of(generator).run_spent_usd("run") == pytest.approx(PRICE_USD)
    (finished,) = collect(generator)
    assert finished.manifest is not None
    assert finished.manifest.estimate == estimate


def test_the_price_of_the_dry_run_is_held_against_the_limit(
    generate: Callable[..., Generator], api: FaultySandbox
) -> None:
    before = charges(api)
    generator = generate()
    results = request_clips(generator, clip("fox"), clip("owl"), run_limit_usd=1.5 * PRICE_USD)
    assert [result.state for result in results] == [
        RequestState.SUBMITTED,
        RequestState.OVER_LIMIT,
    ]
    assert f"it would cost {PRICE_USD:.2f} USD" in results[1].detail
    assert charges(api) == before + 1
    collect(generator)


@pytest.mark.parametrize(
    ("run_limit_usd", "day_limit_usd", "whose"),
    [(1.0, None, "the run's"), (None, 1.0, "the daily")],
)
def test_without_any_price_nothing_is_sent_under_a_limit(
    generate: Callable[..., Generator],
    api: FaultySandbox,
    run_limit_usd: float | None,
    day_limit_usd: float | None,
    whose: str,
) -> None:
    before = charges(api)
    generator = generate(
        transport=SilentAboutPrices(), limits=SpendingLimits(day_usd=day_limit_usd)
    )
    (result,) = request_clips(generator, clip(), run_limit_usd=run_limit_usd)
    assert result.state is RequestState.OVER_LIMIT
    assert result.price is None
    assert f"cannot be held to {whose} spending limit of 1.00 USD" in result.detail
    assert f"The model is {TINY.air}; the API's dry run gave no price." in result.detail
    assert generator.ledger.takes("clips", "fox") == ()
    assert charges(api) == before


def test_a_refused_dry_run_names_its_reason_and_leaves_others_their_price(
    generate: Callable[..., Generator],
) -> None:
    generator = generate(transport=RefusesOne())
    results = request_clips(
        generator, clip("owl", prompt="a refused owl"), clip("fox"), run_limit_usd=1.0
    )
    assert [result.state for result in results] == [
        RequestState.OVER_LIMIT,
        RequestState.SUBMITTED,
    ]
    assert "the prompt is not allowed" in results[0].detail
    collect(generator)


def test_without_a_limit_it_may_be_bought_and_its_cost_counts_afterwards(
    generate: Callable[..., Generator], root: StorageRoot
) -> None:
    generator = generate(transport=SilentAboutPrices())
    (result,) = request_clips(generator, clip())
    assert result.state is RequestState.SUBMITTED
    assert "price: unknown" in result.detail
    assert attempt_of(generator).estimate.usd is None
    assert budget_of(generator).run_spent_usd("run") == 0
    (outstanding,) = cost_rows(scan_library(root, "default"))
    assert (outstanding.estimate_usd, outstanding.cost_usd) == (None, None)
    assert sum_costs("all", [outstanding]).unknown == 1
    (finished,) = collect(generator)
    assert finished.manifest is not None
    assert finished.manifest.cost_usd == pytest.approx(PRICE_USD)
    assert budget_of(generator).run_spent_usd("run") == pytest.approx(PRICE_USD)
    assert budget_of(generator).spent_usd() == pytest.approx(PRICE_USD)
    results = build_clip_checks().evaluate(finished.manifest, UNPRICED)
    cost = next(one for one in results if one.name == "cost_within_estimate")
    assert cost.passed
    assert f"The video cost {PRICE_USD:.4f} USD, {PRICE_USD:g} USD per second." in cost.description
    assert "was unknown before" in cost.description


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_video_without_a_price_counts_as_much_as_the_others_or_is_unknown(
    generate: Callable[..., Generator], api: FaultySandbox, root: StorageRoot, failing: int
) -> None:
    results = list(range(failing))
    api.set_faults(rules=[{"fault": "fail", "error": "safety", "results": results}])
    generator = generate(transport=SilentAboutPrices())
    request_clips(generator, clip(number_results=2))
    (finished,) = collect(generator)
    outcome, (row,) = finished.outcome, cost_rows(scan_library(root, "default"))
    assert outcome.cost_is_estimate
    assert outcome.cost_usd == row.cost_usd
    if failing == 1:
        assert outcome.cost_usd == pytest.approx(2 * PRICE_USD)
        assert budget_of(generator).run_spent_usd("run") == pytest.approx(2 * PRICE_USD)
    else:
        assert outcome.cost_usd is None
        assert sum_costs("all", [row]).unknown == 1
        assert row.wasted == "failed"


def test_what_a_killed_process_claimed_at_a_price_of_the_api_keeps_it(
    generate: Callable[..., Generator], tmp_path: Path
) -> None:
    claimed_before = set()
    for step in itertools.count():
        crashed = StorageRoot(str(tmp_path / str(step)))
        first = generate(storage=crashed)
        first.bind()
        with crashing_at(crashed, step):
            try:
                request_clips(first, clip(), run_limit_usd=1.0)
            except CrashError:
                pass
            else:
                break
        is_claimed = bool(first.ledger.takes("clips", "fox"))
        claimed_before.add(is_claimed)
        later = generate(storage=crashed, transport=SilentAboutPrices())
        (result,) = request_clips(later, clip(), run_limit_usd=1.0)
        assert (result.state is not RequestState.OVER_LIMIT) == is_claimed
        if is_claimed:
            assert attempt_of(later).estimate.usd == pytest.approx(PRICE_USD)
    assert claimed_before == {True, False}


def test_an_entry_of_the_user_gives_the_price(
    generate: Callable[..., Generator],
) -> None:
    generator = generate(transport=SilentAboutPrices(), catalogue=CATALOGUE)
    (result,) = request_clips(generator, clip(), run_limit_usd=1.0)
    assert result.state is RequestState.SUBMITTED
    assert attempt_of(generator).estimate.priced_by == "catalogue"
    collect(generator)


def test_a_clip_over_a_limit_names_the_margin_of_its_price(
    generate: Callable[..., Generator],
) -> None:
    prices = TINY.prices.model_copy(update={"certainty": "approximate"})
    catalogue = CATALOGUE.extended([TINY.model_copy(update={"prices": prices})])
    generator = generate(catalogue=catalogue)
    (result,) = request_clips(generator, clip(), run_limit_usd=PRICE_USD)
    assert result.state is RequestState.OVER_LIMIT
    assert f"it would cost {1.25 * PRICE_USD:.2f} USD" in result.detail
    assert "That price is an estimate: approximate, +25% margin." in result.detail


def test_an_estimate_says_that_a_price_is_unknown_and_why(
    generate: Callable[..., Generator],
) -> None:
    generator = generate(transport=SilentAboutPrices())
    (item,) = generator.estimate([clip()], RequestOptions("run", None))
    assert item.price is not None
    assert item.price.text == "unknown"
    assert item.detail == "the API's dry run gave no price"


def test_a_selection_with_a_limit_leaves_out_what_has_no_price() -> None:
    fox, owl = clip("fox").spec, any_clip("owl").spec
    dataset = PromptDataset(Path("prompts.yaml"), (fox, owl))
    selected = select_clips(dataset, UNPRICED, ["fox", "owl"], max_clips=None, max_usd=5.0)
    assert (selected.clip_ids, selected.unpriced) == (("owl",), ("fox",))
    assert (selected.left, selected.over_budget) == (0, ())
    unlimited = select_clips(dataset, UNPRICED, ["fox", "owl"], max_clips=5, max_usd=None)
    assert unlimited.clip_ids == ("fox", "owl")
    assert unlimited.price.text == "1.20 USD, and 1 of unknown price"
