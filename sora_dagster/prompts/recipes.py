"""Recipes: remixes that any clip of a dataset can have, and how each becomes a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.model_columns import at_default
from sora_dagster.runware.catalogue import Catalogue, FrameSize, RemixMode, RemixWay, VideoModel
from sora_dagster.runware.errors import Problem
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.request_fields import request_fields
from sora_dagster.runware.requests import Inputs, VideoInference
from sora_dagster.runware.rules import audio_problem, broken_rules, may_send, must_send

# In place of a parent's video that is not generated yet; never sent.
_NOT_GENERATED_YET = "00000000-0000-4000-8000-000000000000"
_USUAL_SIZE = FrameSize(1280, 720)
_USUAL_SECONDS = 5.0
# Containers round the length of a video.
_SECONDS_TOLERANCE = 0.1
_MOST_NAMED_MODELS = 5
_SMALLEST_SIDES = {"4k": 2160, "2k": 1440}


@dataclass(frozen=True)
class Recipe:
    """A remix that any clip can have.

    Arguments:
        name: its name, which rows use to request it.
        prompt: the prompt of the remix: what to change in the clip's video, or what follows it.
        model: AIR id of the model. Default: the clip's model.
        mode: how the clip's video is used: ``remix`` (Sora), ``edit``, ``extend``, or ``continue``,
            which starts a new video from its last frame. Default: the first that the model can do.
        settings: parameters of the model by name. Default: none.
        duration_seconds: length of the remix in seconds, or ``auto``, which leaves it to the model.
            Default: that of the mode.
        audio: whether the remix has sound. Default: the model's.
    """

    name: str
    prompt: str
    model: str | None = None
    mode: RemixMode | None = None
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    duration_seconds: float | Literal["auto"] | None = None
    audio: bool | None = None


class RemixModeError(ValueError):
    """A model cannot make a remix in this way."""


def remix_spec(parent: ClipSpec, recipe: Recipe, catalogue: Catalogue) -> ClipSpec:
    """The spec of a remix of a clip.

    Arguments:
        parent: the clip. The remix has its container, quality, content check and tags.
        recipe: the recipe.
        catalogue: the models that may be used.

    Raises:
        RemixModeError: if the model cannot make it.
        UnknownModelError: if the model has no catalogue entry.
    """
    entry = catalogue.get(recipe.model or parent.model)
    mode = remix_mode(recipe.mode, entry, catalogue.find(parent.model), catalogue)
    duration = recipe.duration_seconds
    if mode == "continue" and duration is None and entry.durations is not None:
        # As for a row, so that a change of the default generates nothing.
        duration = entry.durations.default
    formats = entry.output_formats
    return ClipSpec(
        clip_id=parent.clip_id,
        prompt=recipe.prompt,
        model=entry.air,
        mode=mode,
        duration_seconds=duration,
        settings=recipe.settings,
        audio=recipe.audio,
        at_default=tuple(at_default({"audio": recipe.audio, "settings": recipe.settings}, entry)),
        output_format=parent.output_format if parent.output_format in formats else formats[0],
        output_quality=parent.output_quality,
        safety=parent.safety,
        tags=parent.tags,
    )


def remix_mode(
    mode: RemixMode | None, entry: VideoModel, parent: VideoModel | None, catalogue: Catalogue
) -> RemixMode:
    """The mode of a remix.

    Arguments:
        mode: the mode that the recipe names. None: the first that is possible.
        entry: the model of the remix.
        parent: the model of the parent's video. None: unknown.
        catalogue: the models that may be used, for the message.

    Raises:
        RemixModeError: if the model cannot do it; it says what is possible.
    """
    possible = _possible_modes(entry, parent)
    if possible and mode is None:
        return possible[0]
    if mode is not None and mode in possible:
        return mode
    what = "make remixes" if mode is None else f"make a remix by {mode!r}"
    if mode in entry.remix_modes and parent is not None:
        # Only Sora's videos have the id that Sora's remixes need.
        what += f" from a video of {parent.name}, which has no videoId"
    others = [
        other.short_name
        for other in catalogue.entries
        if other.retired is None
        and (mode in _possible_modes(other, parent) if mode else _possible_modes(other, parent))
    ]
    listed = ", ".join(others[:_MOST_NAMED_MODELS]) or "none of the catalogue"
    more = f" and {len(others) - _MOST_NAMED_MODELS} more" if others[_MOST_NAMED_MODELS:] else ""
    raise RemixModeError(
        f"{entry.name} ({entry.air}) cannot {what}; its modes: {', '.join(possible) or 'none'}; "
        f"models that can: {listed}{more}"
    )


def _possible_modes(entry: VideoModel, parent: VideoModel | None) -> tuple[RemixMode, ...]:
    parent_has_id = parent is None or "videoId" in parent.inputs
    return tuple(
        mode
        for mode in entry.remix_modes
        if parent_has_id or mode == "continue" or entry.remix[mode].input != "videoId"
    )


def remix_way(mode: RemixMode, entry: VideoModel) -> RemixWay | None:
    """How a model takes the parent's video of a remix. None: by its last frame.

    Raises:
        RemixModeError: if it cannot make the remix, since its entry has changed.
    """
    if mode not in entry.remix_modes:
        raise RemixModeError(
            f"{entry.name} ({entry.air}) cannot make a remix by {mode!r}; its modes: "
            f"{', '.join(entry.remix_modes) or 'none'}"
        )
    return None if mode == "continue" else entry.remix[mode]


def remix_fields(
    spec: ClipSpec,
    entry: VideoModel,
    carrier: str,
    *,
    size: FrameSize | None,
    seconds: float | None,
) -> dict[str, Any]:
    """The fields of a remix's request, for `VideoInference.build`.

    Arguments:
        spec: the remix.
        entry: the entry of its model.
        carrier: the parent's video as it is sent: its id, its UUID, its address, or the image of
            its last frame.
        size: size of the parent's video, in pixels. None: unknown.
        seconds: length of the parent's video, in seconds. None: unknown.

    Raises:
        RemixModeError: if the model cannot make the remix.
    """
    way = remix_way(spec.mode or "remix", entry)
    if way is None:
        fields = {**spec.request_fields(entry), "inputs": Inputs(frame_images=(carrier,))}
        return fields | _size_by_rules(fields, entry, size)
    spec = spec.model_copy(update={"settings": {**way.settings, **spec.settings}})
    fields = {**spec.request_fields(entry), "inputs": _video_input(way, carrier)}
    if spec.duration_seconds is None and (duration := _duration(way, entry, seconds)) is not None:
        fields["duration"] = duration
    if size is not None and way.size == "resolution":
        fields |= _resolution(entry, size)
    if size is not None and way.size == "parent":
        fields |= _size(entry, size)
    return fields


def _video_input(way: RemixWay, carrier: str) -> Inputs:
    match way.input:
        case "videoId":
            return Inputs(video_id=carrier)
        case "video":
            return Inputs(video=carrier)
        case "referenceVideos":
            return Inputs(reference_videos=(carrier,))


def _duration(way: RemixWay, entry: VideoModel, seconds: float | None) -> float | str | None:
    if way.duration == "none" or entry.durations is None:
        return None
    if way.duration == "parent":
        return None if seconds is None else entry.durations.nearest(seconds)
    return entry.durations.default if way.duration == "default" else way.duration


def _size_by_rules(
    fields: Mapping[str, Any], entry: VideoModel, size: FrameSize | None
) -> dict[str, Any]:
    """The parent's size, or the nearest one, where it must be sent beside a frame; else its tier.

    With a tier, the video keeps the shape of the frame.
    """
    if size is None:
        return {}
    given = request_fields(VideoInference.model_construct(None, **fields), entry)
    if not must_send("size", entry, given):
        if entry.resolutions and may_send("resolution", entry, given):
            return _resolution(entry, size)
        if not may_send("size", entry, given):
            return {}
    return _size(entry, size) if entry.takes_size else {}


def _size(entry: VideoModel, size: FrameSize) -> dict[str, Any]:
    nearest = entry.nearest_size(size)
    return {} if nearest is None else {"width": nearest.width, "height": nearest.height}


def _resolution(entry: VideoModel, size: FrameSize) -> dict[str, Any]:
    """The tier of a size, or the one that is nearest by its number of lines."""
    nearest = entry.nearest_size(size)
    tier = None if nearest is None else entry.tier_of(nearest)
    if tier not in entry.resolutions:
        lines = {name: count for name in entry.resolutions if (count := _lines(name)) is not None}
        tier = min(lines, key=lambda name: abs(lines[name] - min(size)), default=None)
    return {} if tier is None else {"resolution": tier}


def _lines(tier: str) -> int | None:
    """Number of lines of a tier such as ``720p``."""
    if match := re.fullmatch(r"(\d+)p", tier.lower()):
        return int(match[1])
    return _SMALLEST_SIDES.get(tier.lower())


def planned_length(spec: ClipSpec, entry: VideoModel, seconds: float | None) -> float | None:
    """Length of the video of a remix that is not generated yet. None: unknown.

    Arguments:
        spec: the remix.
        entry: the entry of its model.
        seconds: length of its parent's video, in seconds. None: unknown.
    """
    way = remix_way(spec.mode or "remix", entry)
    if way is None:
        return spec.seconds
    sent = spec.duration_seconds or _duration(way, entry, seconds)
    requested = sent if isinstance(sent, (int, float)) else None
    match way.result_length:
        case "parent":
            return seconds if requested is None else requested
        case "requested":
            return requested
        case "unknown":
            return None


def planned_size(spec: ClipSpec, entry: VideoModel, size: FrameSize | None) -> FrameSize | None:
    """Size of the video of a remix that is not generated yet. None: unknown.

    Arguments:
        spec: the remix.
        entry: the entry of its model.
        size: size of its parent's video, in pixels. None: unknown.
    """
    fields = remix_fields(spec, entry, _NOT_GENERATED_YET, size=size, seconds=None)
    if "width" in fields:
        return FrameSize(fields["width"], fields["height"])
    if "resolution" not in fields or size is None:
        return size
    nearest = entry.nearest_size(size)
    is_of_tier = nearest is not None and entry.tier_of(nearest) == fields["resolution"]
    return nearest if is_of_tier else None


def source_problem(mode: RemixMode, entry: VideoModel, seconds: float | None) -> Problem | None:
    """Why a video is too short or too long to be the source of a remix. None: it is not.

    Arguments:
        mode: the mode of the remix.
        entry: the entry of its model.
        seconds: length of the parent's video, in seconds. None: unknown.
    """
    way = remix_way(mode, entry)
    limits = None if way is None else entry.inputs.get(way.input)
    if way is None or limits is None or seconds is None:
        return None
    low, high = limits.min_seconds or 0.0, limits.max_seconds or float("inf")
    if low - _SECONDS_TOLERANCE <= seconds <= high + _SECONDS_TOLERANCE:
        return None
    allowed = f"at least {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
    return Problem(
        f"inputs.{way.input}",
        f"{seconds:g} seconds",
        f"the clip's video is {seconds:g} s long; allowed: {allowed} seconds for a remix by "
        f"{entry.name}",
    )


def planned_remix_problems(
    spec: ClipSpec, entry: VideoModel, *, size: FrameSize | None, seconds: float | None = None
) -> list[Problem]:
    """What is wrong with the request of a remix whose parent is not generated yet.

    Arguments:
        spec: the remix.
        entry: the entry of its model.
        size: size of the parent's video, in pixels. None: unknown.
        seconds: length of the parent's video, in seconds. Default: unknown.
    """
    problems = list(_settings_of_mode(spec, entry))
    if (problem := audio_problem(spec.audio, entry)) is not None:
        problems.append(problem)
    fields = remix_fields(
        spec, entry, _NOT_GENERATED_YET, size=size or _USUAL_SIZE, seconds=seconds or _USUAL_SECONDS
    )
    return [*problems, *broken_rules(VideoInference.model_construct(None, **fields), entry)]


def _settings_of_mode(spec: ClipSpec, entry: VideoModel) -> Iterator[Problem]:
    """Settings of a recipe that its mode sets to another value."""
    way = remix_way(spec.mode or "remix", entry)
    for name, value in () if way is None else way.settings.items():
        given = spec.settings.get(name, value)
        if given != value:
            field = entry.setting_field(name)
            yield Problem(
                field,
                shown(given),
                f"{field} is {shown(given)}; mode {spec.mode} sets it to {shown(value)}. Remove "
                f"it, or choose another mode",
            )
