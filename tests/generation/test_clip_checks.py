"""What the checks say of a stored clip, by its manifest."""

from __future__ import annotations

from typing import Any

import pytest

from sora_dagster.generation.library.clip_checks import build_clip_checks
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.media.checks import CHECKS, CheckResult
from sora_dagster.runware.catalogue import Catalogue
from tests.generation.stored_takes import stored_take

DECODE_ERROR = "The file is truncated: its part 'mdat' ends at byte 900, the file after 500."
FROM_THE_API = {"not_flagged", "cost_within_estimate"}


def undecodable(ledger: Ledger) -> ClipManifest:
    manifest = stored_take(ledger)
    changes = {"decode_error": DECODE_ERROR, "nsfw": False}
    video = manifest.videos[0].model_copy(update=changes)
    return manifest.model_copy(update={"videos": (video,)})


def results_of(manifest: ClipManifest) -> dict[str, CheckResult]:
    results = build_clip_checks().evaluate(manifest, Catalogue.builtin())
    return {result.name: result for result in results}


def test_a_stored_video_that_cannot_be_decoded_fails_decodes_with_the_reason(
    ledger: Ledger,
) -> None:
    decodes = results_of(undecodable(ledger))["decodes"]
    assert (decodes.failed, decodes.severity) == (True, "error")
    assert "its part 'mdat' ends at byte 900" in decodes.description


def test_what_can_only_be_seen_by_decoding_is_then_not_evaluated(ledger: Ledger) -> None:
    results = results_of(undecodable(ledger))
    unevaluated = {name for name, result in results.items() if not result.evaluated}
    assert unevaluated == CHECKS.keys() - FROM_THE_API - {"decodes"}
    for name in unevaluated:
        assert not results[name].passed
        assert not results[name].failed
        assert results[name].description == "Not evaluated: the video cannot be decoded."
    assert all(results[name].passed for name in FROM_THE_API)


def test_only_a_check_that_was_evaluated_blocks(ledger: Ledger) -> None:
    manifest, catalogue = undecodable(ledger), Catalogue.builtin()
    for blocking, blocked in (["not_black"], ()), (["not_black", "decodes"], ("decodes",)):
        checks = build_clip_checks(blocking=blocking)
        assert checks.blocks(checks.evaluate(manifest, catalogue)) == blocked


def test_a_clip_stored_without_measures_is_not_evaluated_by_them(ledger: Ledger) -> None:
    results = results_of(stored_take(ledger))
    assert results["decodes"].passed
    assert not results["not_black"].evaluated
    assert not any(result.failed for result in results.values())


@pytest.mark.parametrize(
    ("model", "spec", "wire", "is_expected"),
    [
        ("google:3@2", {}, {}, True),
        ("google:3@2", {"audio": False}, {}, False),
        (
            "google:3@2",
            {},
            {"providerSettings": {"google": {"generateAudio": False}}},
            False,
        ),
        ("klingai:kling-video@3-pro", {}, {}, False),
        (
            "klingai:kling-video@3-pro",
            {},
            {"providerSettings": {"klingai": {"sound": True}}},
            True,
        ),
        ("runway:1@2", {}, {}, False),
    ],
    ids=["on by default", "off", "off by a setting", "off by default", "on", "a silent model"],
)
def test_sound_is_expected_by_model_and_request(
    ledger: Ledger, model: str, spec: dict[str, Any], wire: dict[str, Any], is_expected: bool
) -> None:
    manifest = stored_take(ledger)
    request = manifest.request.model_copy(
        update={"spec": manifest.request.spec.model_copy(update={"model": model, **spec})}
    )
    silent = manifest.videos[0].model_copy(update={"audio_codec": None})
    changes = {"request": request, "videos": (silent,), "wire": {**manifest.wire, **wire}}
    result = results_of(manifest.model_copy(update=changes))["has_sound"]
    assert (result.evaluated, result.failed) == (is_expected, is_expected)
