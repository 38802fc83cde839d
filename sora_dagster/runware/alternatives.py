"""Which live models can do what requests ask, for messages about models that are not available."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from sora_dagster.runware.catalogue import Catalogue, FrameSize, RemixMode, VideoModel
from sora_dagster.runware.request_fields import request_fields
from sora_dagster.runware.requests import Inputs, VideoInference
from sora_dagster.runware.rules import broken_rules

_MAX_NAMED = 3
_PICTURE = "https://example.com/picture.png"
_VIDEO = "https://example.com/video.mp4"


@dataclass(frozen=True)
class Needs:
    """What a request asks of its model.

    Arguments:
        size: size in pixels. None: the model's default, or that of its input.
        resolution: resolution tier. None: it asks for none.
        seconds: length in seconds. None: the model chooses it.
        sound: whether the video has sound.
        inputs: the kinds of its inputs, such as ``frameImages``.
        mode: how a video is made from an earlier one. None: it is made from the prompt.
    """

    size: FrameSize | None
    resolution: str | None
    seconds: float | None
    sound: bool
    inputs: frozenset[str] = field(default=frozenset())
    mode: RemixMode | None = None


@dataclass(frozen=True)
class Alternative:
    """A live model, and what it cannot do of what is asked.

    Arguments:
        entry: its catalogue entry.
        misses: what it cannot do, in words.
    """

    entry: VideoModel
    misses: tuple[str, ...]

    def __str__(self) -> str:
        without = f", but not {', '.join(self.misses)}" if self.misses else ""
        return f"{self.entry.name} ({self.entry.short_name}{without})"


def needs_of(request: VideoInference, entry: VideoModel, *, mode: RemixMode | None = None) -> Needs:
    """What a request asks of its model.

    Arguments:
        request: the request; it need not be valid.
        entry: the catalogue entry of its model.
        mode: how it uses the video of an earlier clip. Default: by its inputs.
    """
    fields = request_fields(request, entry)
    inputs = {name.removeprefix("inputs.") for name in fields if name.startswith("inputs.")}
    videos = inputs & {"video", "videoId", "referenceVideos"}
    return Needs(
        size=request.size,
        resolution=request.resolution,
        seconds=request.duration if isinstance(request.duration, (int, float)) else None,
        sound=bool(fields["audio"]),
        inputs=frozenset(inputs - videos),
        mode=mode or ("remix" if videos else None),
    )


def alternatives(needs: Iterable[Needs], catalogue: Catalogue) -> list[Alternative]:
    """The live models that can do most of what is asked, the best first; three at most.

    Arguments:
        needs: what is asked.
        catalogue: the models that may be used.
    """
    distinct = set(needs)
    found = []
    for entry in catalogue.entries:
        if entry.retired is not None:
            continue
        misses = dict.fromkeys(
            miss
            for need in sorted(distinct, key=repr)
            for miss in (_misses(entry, need) if _can_generate(entry, need) else [None])
        )
        if None not in misses:
            found.append(Alternative(entry, tuple(miss for miss in misses if miss)))
    found.sort(key=lambda one: (len(one.misses), one.entry.prices.certainty == "unknown"))
    return found[:_MAX_NAMED]


def _misses(entry: VideoModel, need: Needs) -> Iterator[str]:
    if need.size is not None and not entry.allows_size(need.size):
        yield f"size {need.size}"
    if need.resolution is not None and need.resolution not in entry.tiers:
        yield f"resolution {need.resolution}"
    if need.seconds is not None and not (
        entry.durations is not None and entry.durations.allows(need.seconds)
    ):
        yield f"{need.seconds:g} seconds"
    if need.sound and entry.audio == "never":
        yield "sound"
    if not need.sound and entry.audio == "always":
        yield "silent videos"
    # An edit is what is nearest to a remix by Sora.
    modes = {"remix", "edit"} if need.mode == "remix" else {need.mode}
    if need.mode is not None and not modes & set(entry.remix_modes):
        yield "changing an earlier video" if need.mode in ("remix", "edit") else need.mode


def _can_generate(entry: VideoModel, need: Needs) -> bool:
    """Whether a model takes such a request at all, with its nearest size and length."""
    if not need.inputs <= set(entry.inputs):
        return False
    if need.mode is not None:
        return True
    size = entry.default_size if need.size is None else entry.nearest_size(need.size)
    seconds = None
    if entry.durations is not None:
        wanted = entry.durations.default if need.seconds is None else need.seconds
        seconds = wanted if isinstance(wanted, str) else entry.durations.nearest(wanted)
    inputs = {
        attribute: (_PICTURE,) if "images" in attribute else (_VIDEO,)
        for name, attribute in _INPUTS.items()
        if name in need.inputs
    }
    prompt = "x" * max(entry.prompt.min, 1)
    for sent_size in (size, None):
        draft = VideoInference.model_construct(
            None,
            task_uuid="",
            model=entry.air,
            positive_prompt=prompt,
            width=None if sent_size is None else sent_size.width,
            height=None if sent_size is None else sent_size.height,
            duration=seconds,
            output_format=entry.output_formats[0],
            inputs=Inputs(**inputs) if inputs else None,
        )
        if not broken_rules(draft, entry):
            return True
    return False


_INPUTS = {
    "frameImages": "frame_images",
    "referenceImages": "reference_images",
    "referenceAudios": "reference_audios",
}


def retired_text(entry: VideoModel, used_by: str, named: Collection[Alternative]) -> str:
    """That a model was retired, and which models can be used instead.

    Arguments:
        entry: the catalogue entry of the model.
        used_by: what uses it, as a clause: ``12 clips use it``.
        named: the models to name.
    """
    return (
        f"{entry.name} ({entry.air}) was retired on {entry.retired}: Runware does not generate "
        f"with it any more; {used_by}. {instead_text(named)}"
    )


def instead_text(named: Collection[Alternative]) -> str:
    """Which models can be used instead, and how."""
    how = "Set the model of the rows, or SORA_MODEL for rows that name none"
    if not named:
        return (
            "No model of the catalogue can do what is asked; `sora-dagster models list` shows what "
            f"each can do. {how}"
        )
    return f"Available models for what is asked: {'; '.join(map(str, named))}. {how}"


def unavailable_text(request: VideoInference, catalogue: Catalogue) -> str:
    """What to do about a request whose model Runware refused as not available.

    Arguments:
        request: the request.
        catalogue: the models that may be used.
    """
    entry = catalogue.find(request.model)
    if entry is None:
        return instead_text(())
    named = [
        one for one in alternatives([needs_of(request, entry)], catalogue) if one.entry != entry
    ]
    retired = "" if entry.retired is None else f"{entry.name} was retired on {entry.retired}. "
    return f"{retired}{instead_text(named)}"
