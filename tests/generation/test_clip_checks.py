"""What the checks say of a stored clip, by its manifest."""

from __future__ import annotations

from sora_dagster.generation.library.clip_checks import build_clip_checks
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.media.checks import CHECKS, CheckResult
from sora_dagster.runware.catalogue import Catalogue
from tests.generation.stored_takes import stored_take

DECODE_ERROR = "The file is cut short: its part 'mdat' ends at byte 900, the file after 500."
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
