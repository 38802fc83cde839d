"""The checks that every stored clip is held to: ours, and the user's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.generation.protocol.records import ClipManifest, StoredVideo
from sora_dagster.media.check_results import CHECKS, Figure, Severity
from sora_dagster.media.checks import (
    CheckThresholds,
    Expected,
    FoundVideo,
    UndecodableVideo,
    evaluate_all,
)
from sora_dagster.runware.models import Catalogue
from sora_dagster.storage import StorageRoot

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipCheckResult:
    """What one check says of a clip.

    Arguments:
        name: name of the check.
        passed: whether it was evaluated, and nothing is wrong.
        severity: how bad it is where it failed: ``error`` for a clip that should not be used,
            ``warn`` for one that a person should look at.
        description: what was found, and what was expected.
        figures: the numbers that it was judged by.
        evaluated: False where the check could not be evaluated: it neither passed nor failed, and
            the description says why.
    """

    name: str
    passed: bool
    severity: Severity
    description: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    evaluated: bool = True

    @property
    def failed(self) -> bool:
        """Whether it was evaluated, and something is wrong."""
        return self.evaluated and not self.passed


@dataclass(frozen=True)
class CustomCheck:
    """A check of the user's own.

    Arguments:
        judge: given a stored clip, says whether it passes, what was found, and the numbers it was
            judged by.
        severity: how bad it is where it fails.
        description: what it looks at.
    """

    judge: Callable[[StoredClip], tuple[bool, str, Mapping[str, Figure]]]
    severity: Severity = "error"
    description: str = ""


@dataclass(frozen=True)
class ClipChecks:
    """Which checks clips are held to; made by :func:`build_clip_checks`.

    Arguments:
        thresholds: what is still accepted.
        names: our checks that are made, in their order.
        blocking: those, of all checks, whose failure keeps what is downstream from being made.
        custom: the user's own checks, by name.
    """

    thresholds: CheckThresholds = field(default_factory=CheckThresholds)
    names: tuple[str, ...] = tuple(CHECKS)
    blocking: frozenset[str] = frozenset()
    custom: Mapping[str, CustomCheck] = field(default_factory=dict)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of all checks, ours first."""
        return (*self.names, *self.custom)

    def description(self, name: str) -> str:
        """What a check looks at."""
        return _DESCRIPTIONS.get(name) or self.custom[name].description

    def judge(
        self, manifest: ClipManifest, catalogue: Catalogue, root: StorageRoot | None = None
    ) -> list[ClipCheckResult]:
        """What the checks say of a stored clip.

        Ours look at what was measured when it was stored, and read nothing. A check of the user's
        that breaks says so in its verdict: what was paid for is stored all the same.

        Arguments:
            manifest: the clip's record.
            catalogue: says which models make sound.
            root: the storage root, for the user's own checks; they are left out where there is
                none.
        """
        found = [_found(video) for video in manifest.videos]
        verdicts = [
            ClipCheckResult(
                verdict.name,
                verdict.passed,
                verdict.severity,
                verdict.description,
                verdict.figures,
                verdict.evaluated,
            )
            for verdict in evaluate_all(_expected(manifest, catalogue), found, self.thresholds)
            if verdict.name in self.names
        ]
        if root is not None:
            clip = StoredClip(manifest, root)
            verdicts += [_custom_result(name, check, clip) for name, check in self.custom.items()]
        return verdicts

    def blocks(self, verdicts: Iterable[ClipCheckResult]) -> tuple[str, ...]:
        """Names of the blocking checks that failed as an error.

        A check that was not evaluated does not block; what cannot be decoded fails ``decodes``.
        """
        return tuple(
            verdict.name
            for verdict in verdicts
            if verdict.failed and verdict.severity == "error" and verdict.name in self.blocking
        )

    def reason_to_block(
        self, manifest: ClipManifest, catalogue: Catalogue, root: StorageRoot
    ) -> str | None:
        """Why nothing may be made from a stored clip: the blocking checks that it failed."""
        if not self.blocking:
            return None
        verdicts = self.judge(manifest, catalogue, root)
        blocking = self.blocks(verdicts)
        return blocked_sentence(blocking, verdicts) if blocking else None


def build_clip_checks(
    *,
    thresholds: CheckThresholds | None = None,
    exclude: Iterable[str] = (),
    blocking: Iterable[str] = (),
    custom: Mapping[str, CustomCheck] | None = None,
) -> ClipChecks:
    """The checks that clips are held to when they are stored, by hand and by `collect_clips`.

    Arguments:
        thresholds: what is still accepted; the defaults let fades, held shots and quiet scenes
            pass.
        exclude: names of our checks that are not made.
        blocking: names of checks whose failure keeps what is downstream from being made: remixes
            are not asked for, and automation conditions that look at blocking checks hold back.
        custom: checks of your own, by name.

    Raises:
        ValueError: where a name is no check's, or one of your own has a name of ours.

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
    taken = sorted(custom.keys() & {*CHECKS, CLIP_CHECKS, QUALITY})
    if taken:
        raise ValueError(f"{', '.join(taken)}: checks of ours have these names; choose others")
    names = tuple(name for name in CHECKS if name not in exclude)
    for what, given, allowed in (
        ("exclude", exclude, tuple(CHECKS)),
        ("blocking", blocking, (*names, *custom)),
    ):
        if unknown := sorted(given - set(allowed)):
            raise ValueError(
                f"{what} names {', '.join(unknown)}, which is no check; allowed are "
                f"{', '.join(allowed)}"
            )
    return ClipChecks(thresholds or CheckThresholds(), names, blocking, dict(custom))


def blocked_sentence(blocking: Iterable[str], verdicts: Iterable[ClipCheckResult]) -> str:
    """Why a clip is not used, and what can be done about it.

    Arguments:
        blocking: names of the blocking checks that failed.
        verdicts: what all checks say of the clip.
    """
    blocking = set(blocking)
    found = " ".join(
        f"{verdict.name}: {verdict.description}" for verdict in verdicts if verdict.name in blocking
    )
    return (
        f"it is stored, and failed a blocking check. {found} Raise its take to generate it again, "
        f"or make the check non-blocking."
    )


# The check that lists all checks of a clip, and the one that sums up a run.
CLIP_CHECKS = "clip_checks"
QUALITY = "quality"

_DESCRIPTIONS = {
    "decodes": "Every frame and every sample of sound can be decoded.",
    "format_matches": "The container is the one that was asked for.",
    "size_matches": "Width and height are those that were asked for.",
    "duration_matches": "The length is the one that was asked for.",
    "not_black": "The picture is not black for long.",
    "not_frozen": "The picture does not stand still for long.",
    "has_sound": "There is sound, where the model makes some.",
    "not_silent": "The sound is not silent.",
    "not_flagged": "Runware's content check, where it was asked for, flagged nothing.",
    "cost_within_estimate": "It cost no more than was expected.",
}


def _custom_result(name: str, check: CustomCheck, clip: StoredClip) -> ClipCheckResult:
    try:
        passed, description, figures = check.judge(clip)
    except Exception as error:  # noqa: BLE001 - whatever users' code raises
        _log.warning("check %s of %s broke", name, clip.manifest.request.name, exc_info=True)
        return ClipCheckResult(
            name, False, check.severity, f"The check itself broke: {type(error).__name__}: {error}"
        )
    return ClipCheckResult(name, bool(passed), check.severity, description, figures)


def _expected(manifest: ClipManifest, catalogue: Catalogue) -> Expected:
    spec, parent = manifest.request.spec, manifest.request.parent
    size = manifest.request.expected_size
    seconds = spec.duration_seconds
    if seconds is None and parent is not None:
        seconds = parent.duration_seconds
    return Expected(
        size=None if size is None else (size.width, size.height),
        duration_seconds=seconds,
        container=spec.output_format,
        has_sound=catalogue.makes_sound(spec.model),
        estimate_usd=manifest.estimate_usd / spec.number_results,
    )


def _found(video: StoredVideo) -> FoundVideo | UndecodableVideo:
    if video.decode_error is not None:
        return UndecodableVideo(video.decode_error, is_flagged=video.nsfw, cost_usd=video.cost_usd)
    return FoundVideo(
        container=video.container,
        width=video.width,
        height=video.height,
        duration_seconds=video.duration_seconds,
        frame_count=video.frame_count,
        audio_codec=video.audio_codec,
        measures=video.measures,
        is_flagged=video.nsfw,
        cost_usd=video.cost_usd,
    )
