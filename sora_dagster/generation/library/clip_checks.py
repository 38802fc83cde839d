"""The checks of stored clips: the built-in ones, and the user's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.media.checks import (
    CHECKS,
    CheckResult,
    CheckThresholds,
    Expected,
    ExpectedCost,
    Figure,
    FoundVideo,
    Severity,
    evaluate_all,
)
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.request_fields import sound_switch
from sora_dagster.storage import StorageRoot

_log = logging.getLogger(__name__)


# The check that lists all checks of a clip, and the one that summarizes a run.
CLIP_CHECKS = "clip_checks"
QUALITY = "quality"

_DESCRIPTIONS = {
    "decodes": "All frames and all sound can be decoded.",
    "format_matches": "The container is the requested one.",
    "size_matches": "Width and height are the requested ones.",
    "duration_matches": "The duration is the requested one.",
    "not_black": "No long part of the video is black.",
    "not_frozen": "No long part of the video is frozen.",
    "has_sound": "There is sound, unless the model generates none or it was switched off.",
    "not_silent": "The sound is not silent.",
    "not_flagged": "Runware's content check, if requested, flagged nothing.",
    "cost_within_estimate": "It cost no more than estimated. A failure means that the "
    "model's price has changed.",
}


@dataclass(frozen=True)
class CustomCheck:
    """A check of your own.

    Arguments:
        evaluate: takes a stored clip; returns whether it passes, what was found, and the numbers
            behind the result.
        severity: severity of a failure: ``error`` or ``warn``; default: ``error``.
        description: what it checks; default: empty.
    """

    evaluate: Callable[[StoredClip], tuple[bool, str, Mapping[str, Figure]]]
    severity: Severity = "error"
    description: str = ""


@dataclass(frozen=True)
class ClipChecks:
    """The checks of a dataset's clips; created by :func:`build_clip_checks`.

    Arguments:
        thresholds: limits of the built-in checks.
        names: names of the built-in checks that are evaluated, in their order.
        blocking: names of the checks whose failure blocks downstream assets.
        custom: the user's checks, by name.
    """

    thresholds: CheckThresholds = field(default_factory=CheckThresholds)
    names: tuple[str, ...] = tuple(CHECKS)
    blocking: frozenset[str] = frozenset()
    custom: Mapping[str, CustomCheck] = field(default_factory=dict)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of all checks, the built-in ones first."""
        return (*self.names, *self.custom)

    def description(self, name: str) -> str:
        """What a check checks."""
        return _DESCRIPTIONS.get(name) or self.custom[name].description

    def evaluate(
        self, manifest: ClipManifest, catalogue: Catalogue, root: StorageRoot | None = None
    ) -> list[CheckResult]:
        """Evaluate the checks on a stored clip.

        The built-in ones use what was measured when the clip was stored, and read nothing. A
        custom check that raises fails; the clip is stored anyway, since it was paid for.

        Arguments:
            manifest: the clip's manifest.
            catalogue: says which models generate sound.
            root: the storage root; None to leave out custom checks.
        """
        facts = [field.name for field in fields(FoundVideo)]
        found = [
            FoundVideo(**{name: getattr(video, name) for name in facts})
            for video in manifest.videos
        ]
        results = [
            result
            for result in evaluate_all(_expected(manifest, catalogue), found, self.thresholds)
            if result.name in self.names
        ]
        if root is not None:
            clip = StoredClip(manifest, root)
            results += [_custom_result(name, check, clip) for name, check in self.custom.items()]
        return results

    def blocks(self, results: Iterable[CheckResult]) -> tuple[str, ...]:
        """Names of the blocking checks that failed as an error.

        A check that was not evaluated does not block; a video that cannot be decoded fails
        ``decodes``.
        """
        return tuple(
            result.name
            for result in results
            if result.failed and result.severity == "error" and result.name in self.blocking
        )

    def reason_to_block(
        self, manifest: ClipManifest, catalogue: Catalogue, root: StorageRoot
    ) -> str | None:
        """Why a stored clip blocks what is downstream; None if it does not."""
        if not self.blocking:
            return None
        results = self.evaluate(manifest, catalogue, root)
        blocking = self.blocks(results)
        return blocked_sentence(blocking, results) if blocking else None


def build_clip_checks(
    *,
    thresholds: CheckThresholds | None = None,
    exclude: Iterable[str] = (),
    blocking: Iterable[str] = (),
    custom: Mapping[str, CustomCheck] | None = None,
) -> ClipChecks:
    """The checks that are evaluated when clips are stored, by assets and by `collect_clips`.

    Arguments:
        thresholds: limits of the built-in checks; the defaults allow fades, held shots and quiet
            scenes.
        exclude: names of built-in checks that are not evaluated; default: none.
        blocking: names of checks whose failure blocks what is downstream: remixes are not
            requested, and automation conditions that look at blocking checks wait; default: none.
        custom: checks of your own, by name; default: none.

    Raises:
        ValueError: if a name is unknown, or a custom check has the name of a built-in one.

    Example:
        >>> def is_long(clip):
        ...     seconds = clip.video.duration_seconds
        ...     return seconds >= 4, f"It is {seconds} s long.", {"seconds": seconds}
        >>> checks = build_clip_checks(
        ...     blocking=["decodes", "not_black"], custom={"is_long": CustomCheck(is_long)}
        ... )
        >>> checks.all_names[-1]
        'is_long'
    """
    custom, exclude, blocking = custom or {}, frozenset(exclude), frozenset(blocking)
    if taken := sorted(custom.keys() & {*CHECKS, CLIP_CHECKS, QUALITY}):
        raise ValueError(
            f"custom checks cannot be called {', '.join(taken)}: built-in checks have these names; "
            f"choose others"
        )
    names = tuple(name for name in CHECKS if name not in exclude)
    for argument, given, allowed in (
        ("exclude", exclude, tuple(CHECKS)),
        ("blocking", blocking, (*names, *custom)),
    ):
        if unknown := sorted(given - set(allowed)):
            raise ValueError(
                f"{argument} names unknown checks: {', '.join(unknown)}; allowed are "
                f"{', '.join(allowed)}"
            )
    return ClipChecks(thresholds or CheckThresholds(), names, blocking, dict(custom))


def blocked_sentence(blocking: Iterable[str], results: Iterable[CheckResult]) -> str:
    """Why a clip is not used, and what can be done about it.

    Arguments:
        blocking: names of the blocking checks that failed.
        results: the results of all checks of the clip.
    """
    blocking = set(blocking)
    found = " ".join(
        f"{result.name}: {result.description}" for result in results if result.name in blocking
    )
    return (
        f"it is stored, and failed a blocking check. {found} Raise its take to generate it again, "
        f"or make the check non-blocking."
    )


def _custom_result(name: str, check: CustomCheck, clip: StoredClip) -> CheckResult:
    figures: Mapping[str, Figure] = {}
    try:
        passed, description, figures = check.evaluate(clip)
    except Exception as error:  # noqa: BLE001 - whatever users' code raises
        _log.warning("check %s of %s failed", name, clip.manifest.request.name, exc_info=True)
        passed, description = False, f"The check itself failed: {type(error).__name__}: {error}"
    return CheckResult(name, bool(passed), description, figures, custom_severity=check.severity)


def _expected(manifest: ClipManifest, catalogue: Catalogue) -> Expected:
    spec = manifest.request.spec
    return Expected(
        size=_expected_size(manifest),
        duration_seconds=_expected_seconds(manifest, catalogue),
        container=spec.output_format,
        has_sound=_has_sound(manifest, catalogue),
        cost=_expected_cost(manifest, catalogue),
    )


def _expected_cost(manifest: ClipManifest, catalogue: Catalogue) -> ExpectedCost:
    price, spec = manifest.estimate, manifest.request.spec
    entry = catalogue.find(spec.model)
    results = spec.number_results
    advice = (
        "Compare the entry with Runware's prices (sora-dagster models check), and correct it "
        "(SORA_MODELS)."
    )
    if price.usd is None:
        advice = "Set it in the model's catalogue entry (SORA_MODELS)."
    return ExpectedCost(
        usd=None if price.usd is None else price.usd / results,
        margin_usd=price.margin / results,
        is_approximate=price.certainty == "approximate",
        model=spec.model if entry is None else f"{entry.name} ({entry.air})",
        basis=price.basis,
        advice=advice,
    )


def _expected_size(manifest: ClipManifest) -> tuple[int, int] | None:
    """The size that was sent, which a remix has from its parent, or that of Sora's parent."""
    width, height = manifest.wire.get("width"), manifest.wire.get("height")
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    size = manifest.request.expected_size
    return None if size is None else (size.width, size.height)


def _expected_seconds(manifest: ClipManifest, catalogue: Catalogue) -> float | None:
    """The length that was sent; of a remix, what its model says about the length of results."""
    spec, parent = manifest.request.spec, manifest.request.parent
    sent = manifest.wire.get("duration")
    requested = float(sent) if isinstance(sent, (int, float)) else spec.seconds
    if parent is None or spec.mode == "continue":
        return requested
    mode = spec.mode or "remix"
    entry = catalogue.find(spec.model)
    if entry is None or mode not in entry.remix:
        return None
    match entry.remix[mode].result_length:
        case "parent":
            return parent.duration_seconds if requested is None else requested
        case "requested":
            return requested
        case "unknown":
            return None


def _has_sound(manifest: ClipManifest, catalogue: Catalogue) -> bool:
    """Whether the model makes sound, unless the request that was sent switched it off."""
    spec = manifest.request.spec
    entry = catalogue.find(spec.model)
    if entry is None:
        return False
    switch: Any = manifest.wire
    for part in (sound_switch(entry) or "").split("."):
        switch = switch.get(part) if isinstance(switch, Mapping) else None
    return entry.makes_sound(switch if isinstance(switch, bool) else spec.audio)
