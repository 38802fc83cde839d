"""Prices: what is published is never below a bill that is possible, and what is guessed says so."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from sora_dagster.runware import FrameSize, VideoInference, VideoModel
from sora_dagster.runware.pricing import Price, PriceTotal, price_of
from tests.runware.examples import FIRST, SECOND, SORA_2_PRO, remix, request

SIZES = {"720p": FrameSize(1280, 720), "1080p": FrameSize(1920, 1080)}
LONGEST_INPUT = 12


def entry_of(**parts: Any) -> VideoModel:
    """An entry with two tiers, for what is given besides."""
    return VideoModel.model_validate(
        {
            "air": "maker:model@1",
            "name": "Model",
            "sizes": {tier: [str(size)] for tier, size in SIZES.items()},
            "resolutions": list(SIZES),
            "durations": {"values": [5, 10], "default": 5},
            "inputs": {
                "frameImages": {},
                "referenceImages": {"max": 9},
                "video": {"max_seconds": LONGEST_INPUT},
                "referenceVideos": {"max": 3, "max_seconds": LONGEST_INPUT},
            },
            **parts,
        }
    )


def priced(*rates: dict[str, Any], **prices: Any) -> dict[str, Any]:
    return {"certainty": "published", "rates": list(rates), **prices}


def draft(**fields: Any) -> VideoInference:
    return VideoInference.build(
        task_uuid=FIRST, model="maker:model@1", positive_prompt="a fox", **fields
    )


def picture(width: int, height: int) -> str:
    body = BytesIO()
    Image.new("RGB", (width, height)).save(body, "PNG")
    return f"data:image/png;base64,{base64.b64encode(body.getvalue()).decode()}"


# What is known


@pytest.mark.parametrize(("images", "usd"), [(1, 0.4), (5, 0.4), (6, 0.44), (8, 0.52)])
def test_input_images_cost_after_the_free_ones(images: int, usd: float) -> None:
    entry = entry_of(
        prices=priced({"usd_per_second": 0.08}, input_image_usd=0.04, free_input_images=5)
    )
    inputs = {"reference_images": (SECOND,) * images}
    price = price_of(draft(duration=5, resolution="720p", inputs=inputs), entry)
    assert price.usd == pytest.approx(usd)


def test_frames_and_reference_images_are_both_input_images() -> None:
    entry = entry_of(prices=priced({"usd_per_second": 0.1}, input_image_usd=0.01))
    inputs = {"frame_images": (SECOND,), "reference_images": (SECOND, SECOND)}
    price = price_of(draft(duration=5, resolution="720p", inputs=inputs), entry)
    assert price.usd == pytest.approx(0.53)


def test_the_seconds_of_input_videos_cost() -> None:
    entry = entry_of(prices=priced({"usd_per_second": 0.1}, input_video_second_usd=0.13))
    request = draft(duration=5, resolution="720p", inputs={"reference_videos": (SECOND, SECOND)})
    assert price_of(request, entry, input_seconds=8).usd == pytest.approx(0.5 + 1.04)
    # Without their lengths: each may be as long as the model allows.
    assert price_of(request, entry).usd == pytest.approx(0.5 + 0.13 * 2 * LONGEST_INPUT)


def test_input_videos_of_unknown_length_make_the_price_unknown_if_their_seconds_cost() -> None:
    entry = entry_of(
        inputs={"video": {}}, prices=priced({"usd_per_second": 0.1}, input_video_second_usd=0.1)
    )
    request = draft(duration=5, resolution="720p", inputs={"video": SECOND})
    assert price_of(request, entry).usd is None
    assert price_of(request, entry, input_seconds=4).usd == pytest.approx(0.9)


@pytest.mark.parametrize(("duration", "usd"), [(5, 0.15), (10, 0.3), (None, 0.3)])
def test_a_fixed_block_costs_as_a_whole_and_an_unknown_one_as_the_dearest(
    duration: int | None, usd: float
) -> None:
    entry = entry_of(
        prices=priced({"if": {"duration": 5}, "usd": 0.15}, {"if": {"duration": 10}, "usd": 0.3})
    )
    assert price_of(draft(duration=duration, resolution="720p"), entry).usd == pytest.approx(usd)


def test_a_length_without_a_block_has_an_unknown_price() -> None:
    entry = entry_of(prices=priced({"if": {"duration": 5}, "usd": 0.15}))
    assert price_of(draft(duration=5, resolution="720p"), entry).usd == pytest.approx(0.15)
    assert price_of(draft(duration=10, resolution="720p"), entry).usd is None
    assert price_of(draft(resolution="720p"), entry).usd is None


def test_a_length_that_the_model_chooses_counts_as_the_longest() -> None:
    entry = entry_of(
        durations={"min": 4, "max": 30, "auto": True, "default": "auto"},
        prices=priced({"usd_per_second": 0.1}),
    )
    for fields in ({"duration": "auto"}, {}):
        assert price_of(draft(resolution="720p", **fields), entry).usd == pytest.approx(3)


def test_reference_videos_do_not_decide_the_length() -> None:
    entry = entry_of(prices=priced({"usd_per_second": 0.1}))
    request = draft(resolution="720p", inputs={"reference_videos": (SECOND,)})
    assert price_of(request, entry, input_seconds=2).usd == pytest.approx(1)


@pytest.mark.parametrize(
    ("input_seconds", "counted"), [(4.0, 4), (3.96, 4), (4.04, 4.04), (4.3, 5), (None, 12)]
)
def test_an_edit_costs_as_many_seconds_as_its_input_has(
    input_seconds: float | None, counted: float
) -> None:
    entry = entry_of(
        remix={"edit": {"input": "video", "result_length": "parent"}},
        prices=priced({"usd_per_second": 0.1}),
    )
    request = draft(inputs={"video": SECOND})
    price = price_of(request, entry, input_seconds=input_seconds)
    assert price.usd == pytest.approx(0.1 * counted)


def test_an_editor_without_any_length_has_an_unknown_price() -> None:
    entry = entry_of(durations=None, inputs={"video": {}}, prices=priced({"usd_per_second": 0.28}))
    request = draft(inputs={"video": SECOND})
    assert price_of(request, entry).usd is None
    assert price_of(request, entry, input_seconds=5).usd == pytest.approx(1.4)


@pytest.mark.parametrize(
    "first_frame", [picture(1280, 720), picture(1920, 1080), picture(640, 640)]
)
def test_a_first_frame_at_hand_decides_the_tier(first_frame: str) -> None:
    frame = request(width=None, height=None, duration=4, inputs={"frame_images": (first_frame,)})
    expected = 1.2 if first_frame == picture(1280, 720) else 2.0
    assert price_of(frame, SORA_2_PRO).usd == pytest.approx(expected)


def test_a_remix_is_as_long_and_as_large_as_its_parent() -> None:
    price = price_of(remix(), SORA_2_PRO, input_size=FrameSize(1280, 720), input_seconds=8)
    assert price.usd == pytest.approx(2.4)
    # Of a parent that is not known: the largest and the longest.
    assert price_of(remix(), SORA_2_PRO).usd == pytest.approx(10)


@pytest.mark.parametrize(("default", "usd"), [(False, 0.5), (True, 2.0), (None, 2.0)])
def test_a_setting_that_is_not_sent_counts_at_its_default_or_at_the_dearest(
    default: bool | None, usd: float
) -> None:
    entry = entry_of(
        settings={"pro": {"type": "boolean", "default": default}},
        prices=priced(
            {"if": {"settings.pro": True}, "usd_per_second": 0.4}, {"usd_per_second": 0.1}
        ),
    )
    assert price_of(draft(duration=5, resolution="720p"), entry).usd == pytest.approx(usd)


# Words


def test_a_margin_is_added_and_said() -> None:
    entry = entry_of(prices=priced({"usd_per_second": 0.1}) | {"certainty": "approximate"})
    price = price_of(draft(duration=5, resolution="720p", number_results=2), entry)
    assert (price.usd, price.margin) == (pytest.approx(1.25), pytest.approx(0.25))
    assert price.text == "about 1.25 USD (approximate, +25% margin)"


def test_a_model_without_prices_has_an_unknown_price() -> None:
    price = price_of(draft(duration=5), entry_of(prices={"certainty": "unknown"}))
    assert (price.usd, price.text) == (None, "unknown")


def test_a_price_says_which_rate_it_is_from() -> None:
    entry = entry_of(
        prices=priced(
            {"if": {"tier": "720p"}, "usd_per_second": 0.1},
            {"if": {"tier": "1080p"}, "usd_per_second": 0.3},
            source="https://example.com/prices",
            as_of="2026-11-01",
        )
    )
    price = price_of(draft(duration=5), entry)
    assert price.rate == "0.3 USD per second with tier 1080p"
    assert (price.source, str(price.as_of)) == ("https://example.com/prices", "2026-11-01")


@pytest.mark.parametrize(
    ("prices", "text"),
    [
        ([], "0.00 USD"),
        ([("published", 1.2, 0)], "1.20 USD"),
        ([("approximate", 1.25, 0.25)], "about 1.25 USD (approximate, +25% margin)"),
        (
            [("approximate", 1.25, 0.25), ("published", 1, 0)],
            "about 2.25 USD (including a margin of 0.25 USD)",
        ),
        ([("unknown", None, 0)], "unknown"),
        ([("published", 1.2, 0), ("unknown", None, 0)], "1.20 USD, and 1 of unknown price"),
    ],
)
def test_a_sum_of_prices_says_what_it_is_made_of(prices: list[Any], text: str) -> None:
    total = PriceTotal.of(
        Price(usd=usd, certainty=certainty, margin=margin) for certainty, usd, margin in prices
    )
    assert total.text == text


# Any entry, any request, and any bill that is possible for it

tiers = st.sampled_from([*SIZES])
usd = st.integers(1, 100).map(lambda cents: cents / 100)


CONDITIONS: dict[str, tuple[Any, Any]] = {
    "tier": (*SIZES,),
    "audio": (True, False),
    "duration": (5, 10),
    "inputs.video": ("given", "missing"),
    "settings.pro": (True, False),
}


@st.composite
def rates(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.sets(st.sampled_from([*CONDITIONS]), min_size=1, max_size=2))
    condition = {name: draw(st.sampled_from(CONDITIONS[name])) for name in sorted(names)}
    amounts = draw(st.sampled_from([["usd_per_second"], ["usd"], ["usd", "usd_per_second"]]))
    return {"if": condition, **{name: draw(usd) for name in amounts}}


@st.composite
def entries(draw: st.DrawFn) -> VideoModel:
    listed = draw(st.lists(rates(), min_size=1, max_size=4))
    if draw(st.integers(0, 4)):
        listed.append({"usd_per_second": draw(usd)})
    durations = draw(
        st.sampled_from(
            [
                {"values": [5, 10], "default": 5},
                {"min": 3, "max": 15, "auto": True, "default": "auto"},
            ]
        )
    )
    parts: dict[str, Any] = {
        "settings": {
            "pro": {"type": "boolean", "default": draw(st.sampled_from([None, True, False]))},
            "sound": {"type": "boolean"},
        },
        "audio": {"setting": "sound", "default": draw(st.booleans())},
        "durations": durations,
        "default_resolution": draw(st.none() | tiers),
        "remix": draw(
            st.sampled_from([{}, {"edit": {"input": "video", "result_length": "parent"}}])
        ),
        "prices": priced(
            *listed,
            input_image_usd=draw(st.sampled_from([0, 0.04])),
            free_input_images=draw(st.integers(0, 3)),
            input_video_second_usd=draw(st.sampled_from([0, 0.13])),
        )
        | {"certainty": draw(st.sampled_from(["published", "approximate"]))},
    }
    try:
        return entry_of(**parts)
    except ValidationError:
        assume(False)
        raise


@st.composite
def drafts(draw: st.DrawFn) -> VideoInference:
    fields: dict[str, Any] = {"number_results": draw(st.integers(1, 4))}
    match draw(st.sampled_from(["size", "resolution", "none"])):
        case "size":
            size = SIZES[draw(tiers)]
            fields |= {"width": size.width, "height": size.height}
        case "resolution":
            fields["resolution"] = draw(tiers)
    if (duration := draw(st.sampled_from([None, "auto", 5]))) is not None:
        fields["duration"] = duration
    fields["inputs"] = {
        name: value
        for name, value in {
            "frame_images": draw(st.sampled_from([None, (SECOND,)])),
            "reference_images": draw(st.sampled_from([None, (SECOND,) * 5])),
            "video": draw(st.sampled_from([None, SECOND])),
            "reference_videos": draw(st.sampled_from([None, (SECOND,) * 3])),
        }.items()
        if value is not None
    }
    sent = {
        name: value
        for name in ("pro", "sound")
        if (value := draw(st.sampled_from([None, None, True, False]))) is not None
    }
    if sent:
        fields["settings"] = sent
    return draft(**fields)


@st.composite
def bills(draw: st.DrawFn) -> tuple[VideoModel, VideoInference, float | None, float | None]:
    """An entry, a request, the known length of its input videos, and a bill that is possible."""
    entry, task = draw(entries()), draw(drafts())
    inputs = task.inputs
    assert inputs is not None
    sent = dict(task.settings or {})
    videos = (inputs.video is not None) + len(inputs.reference_videos or ())
    lengths = [draw(st.integers(2, LONGEST_INPUT)) for _ in range(videos)]
    if task.size is not None:
        tier = next(tier for tier, size in SIZES.items() if size == task.size)
    else:
        tier = task.resolution or entry.default_resolution or draw(tiers)
    assert entry.durations is not None
    allowed = list(entry.durations.from_longest())
    seconds = task.duration
    if not isinstance(seconds, (int, float)):
        follows = bool(entry.remix) and inputs.video is not None
        seconds = sum(lengths) if follows else draw(st.sampled_from(allowed))
    pro = sent.get("pro", entry.settings["pro"].default)
    facts = {
        "tier": tier,
        "audio": sent.get("sound", entry.makes_sound()),
        "duration": seconds,
        "inputs.video": "missing" if inputs.video is None else "given",
        "settings.pro": draw(st.booleans()) if pro is None else pro,
    }
    rate = next(
        (
            rate
            for rate in entry.prices.rates
            if all(facts[name] == value for name, (value,) in rate.if_.items())
        ),
        None,
    )
    known = float(sum(lengths)) if draw(st.booleans()) else None
    if rate is None:
        return entry, task, known, None
    bill = (rate.usd or 0) + (rate.usd_per_second or 0) * seconds
    images = len(inputs.frame_images or ()) + len(inputs.reference_images or ())
    bill += max(0, images - entry.prices.free_input_images) * entry.prices.input_image_usd
    bill += sum(lengths) * entry.prices.input_video_second_usd
    return entry, task, known, bill * task.number_results


@settings(max_examples=400)
@given(bills())
def test_no_bill_that_is_possible_is_above_the_estimate(
    case: tuple[VideoModel, VideoInference, float | None, float | None],
) -> None:
    entry, task, input_seconds, bill = case
    price = price_of(task, entry, input_seconds=input_seconds)
    if price.usd is None:
        return
    assert bill is not None, "a price that the entry does not have"
    assert price.usd - price.margin >= bill - 1e-9
    share = 0.25 if price.certainty == "approximate" else 0
    assert price.margin == pytest.approx((price.usd - price.margin) * share, abs=2e-6)


@given(entries(), drafts())
def test_what_is_known_is_estimated_at_the_bill(entry: VideoModel, task: VideoInference) -> None:
    size = SIZES["1080p"]
    known = task.model_copy(
        update={
            "inputs": None,
            "duration": 10,
            "width": size.width,
            "height": size.height,
            "settings": {"pro": True, "sound": False},
        }
    )
    facts = {
        "tier": "1080p",
        "audio": False,
        "duration": 10,
        "inputs.video": "missing",
        "settings.pro": True,
    }
    rate = next(
        (
            rate
            for rate in entry.prices.rates
            if all(facts[name] == value for name, (value,) in rate.if_.items())
        ),
        None,
    )
    price = price_of(known, entry)
    if rate is None:
        assert price.usd is None
        return
    assert price.usd is not None
    bill = ((rate.usd or 0) + 10 * (rate.usd_per_second or 0)) * task.number_results
    assert price.usd - price.margin == pytest.approx(bill, abs=2e-6)
