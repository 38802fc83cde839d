"""Which models know a column, and which column a field of a request comes from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.runware.request_fields import sound_switch

_MAX_LISTED_MODELS = 12


def _takes_frame(entry: VideoModel, place: str) -> bool:
    frames = entry.inputs.get("frameImages")
    return frames is not None and place in frames.positions


_IS_KNOWN: Mapping[str, Callable[[VideoModel], bool]] = {
    "size": lambda entry: entry.takes_size,
    "resolution": lambda entry: bool(entry.resolutions),
    "duration": lambda entry: entry.durations is not None,
    "fps": lambda entry: entry.fps is not None,
    "seed": lambda entry: entry.seed is not None,
    "negative_prompt": lambda entry: entry.negative_prompt is not None,
    "first_frame": lambda entry: _takes_frame(entry, "first"),
    "last_frame": lambda entry: _takes_frame(entry, "last"),
    "reference_images": lambda entry: "referenceImages" in entry.inputs,
}
COLUMNS_OF_MODELS = tuple(_IS_KNOWN)

_COLUMNS_OF_FIELDS = {
    "model": "model",
    "positivePrompt": "prompt",
    "negativePrompt": "negative_prompt",
    "width": "size",
    "height": "size",
    "size": "size",
    "resolution": "resolution",
    "duration": "duration",
    "fps": "fps",
    "seed": "seed",
    "audio": "audio",
    "numberResults": "number_results",
    "outputFormat": "output_format",
    "outputQuality": "output_quality",
    "safety": "safety",
    "inputs.referenceImages": "reference_images",
    # Only remixes have one of these.
    "inputs.video": "model",
    "inputs.videoId": "model",
    "inputs.referenceVideos": "model",
    "inputs.referenceAudios": "model",
}


def supports_column(entry: VideoModel, column: str) -> bool:
    """Whether a model takes what a column sets."""
    is_known = _IS_KNOWN.get(column)
    return is_known is None or is_known(entry)


def unsupported_column_message(entry: VideoModel, column: str, catalogue: Catalogue) -> str:
    """The message about a column that a row's model does not know."""
    what = column.replace("_", " ")
    others = models_with(lambda other: supports_column(other, column), catalogue)
    return (
        f"{entry.name} ({entry.air}) takes no {what}; remove it, or choose a model that does: "
        f"{others}"
    )


def models_with(condition: Callable[[VideoModel], bool], catalogue: Catalogue) -> str:
    """The names of all models for which a condition holds, live ones first, for messages."""
    found = sorted(
        (entry for entry in catalogue.entries if condition(entry)),
        key=lambda entry: entry.retired is not None,
    )
    names = [
        entry.short_name if entry.retired is None else f"{entry.short_name} (retired)"
        for entry in found
    ]
    if len(names) > _MAX_LISTED_MODELS:
        names[_MAX_LISTED_MODELS:] = [f"and {len(names) - _MAX_LISTED_MODELS} more"]
    return ", ".join(names) or "none in the catalogue"


def models_for_row(columns: Collection[str], catalogue: Catalogue) -> str:
    """The names of all models that make a video from a row with some columns, for messages."""
    return models_with(
        lambda entry: (
            not entry.needs_video and all(supports_column(entry, column) for column in columns)
        ),
        catalogue,
    )


def column_of(field: str, spec: ClipSpec, entry: VideoModel | None) -> str | None:
    """The column that a field of a request comes from. None: the row as a whole.

    Arguments:
        field: the field by its name in the API, such as ``inputs.frameImages.0``.
        spec: the clip of the row.
        entry: the model's catalogue entry. None: the model is unknown.
    """
    if field.startswith("inputs.frameImages"):
        index = field.removeprefix("inputs.frameImages").strip(".").partition(".")[0]
        is_first = spec.first_frame is not None and (index == "0" or spec.last_frame is None)
        return "first_frame" if is_first or spec.last_frame is None else "last_frame"
    if field == "inputs":
        names = ("first_frame", "last_frame", "reference_images")
        return next((name for name in names if getattr(spec, name)), None)
    for prefix in (field, ".".join(field.split(".")[:2]), field.partition(".")[0]):
        if prefix in _COLUMNS_OF_FIELDS:
            return _COLUMNS_OF_FIELDS[prefix]
    if entry is not None and field == sound_switch(entry) and spec.audio is not None:
        return "audio"
    return "settings"


def in_columns(message: str, spec: ClipSpec) -> str:
    """A message about a request, with the names of the row's columns instead of the API's."""
    frames = [name for name in ("first_frame", "last_frame") if getattr(spec, name)]
    return message.replace("inputs.frameImages", " and ".join(frames) or "first_frame").replace(
        "inputs.referenceImages", "reference_images"
    )


def at_default(values: Mapping[str, Any], entry: VideoModel) -> Iterator[str]:
    """The fields whose value is the model's own default.

    Arguments:
        values: the fields of a `ClipSpec`: `audio`, `settings`, `size` and `resolution`.
        entry: the catalogue entry of its model.
    """
    audio, resolution = values.get("audio"), values.get("resolution")
    if audio is not None and audio == entry.makes_sound():
        yield "audio"
    if values.get("size") is None and resolution == entry.default_resolution is not None:
        yield "resolution"
    for name, value in values["settings"].items():
        setting = entry.settings.get(name)
        default = None if setting is None else setting.default
        # True equals 1, but a switch is not a number.
        if value == default is not None and isinstance(value, bool) == isinstance(default, bool):
            yield f"settings.{name}"
