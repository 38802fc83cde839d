"""The fields of a request by their names in the API, for rules and prices of catalogue entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sora_dagster.runware.catalogue import VideoModel
from sora_dagster.runware.catalogue.parts import AudioSwitch
from sora_dagster.runware.requests import Inputs, VideoInference

_INPUT_FIELDS = {
    "inputs.frameImages": "frame_images",
    "inputs.referenceImages": "reference_images",
    "inputs.referenceVideos": "reference_videos",
    "inputs.referenceAudios": "reference_audios",
    "inputs.video": "video",
    "inputs.videoId": "video_id",
}
VIDEO_INPUTS = ("inputs.video", "inputs.videoId", "inputs.referenceVideos")
IMAGE_INPUTS = ("inputs.frameImages", "inputs.referenceImages")


def request_fields(request: VideoInference, entry: VideoModel) -> dict[str, object]:
    """All fields that a request sets, and those that conditions know besides (see `conditions`).

    Arguments:
        request: the request; it need not be valid.
        entry: the catalogue entry of its model.
    """
    fields = {name: value for name, value in _fields(request) if value is not None}
    if any(name.startswith("inputs.") for name in fields):
        fields["inputs"] = True
    tier = request.resolution if request.size is None else entry.tier_of(request.size)
    if tier is not None:
        fields["tier"] = tier
    if (switch := sound_switch(entry)) is not None:
        fields["audio"] = fields.get(switch, entry.makes_sound())
    else:
        fields["audio"] = entry.makes_sound()
    return fields


def sound_switch(entry: VideoModel) -> str | None:
    """The field that switches sound on and off. None: the model has none."""
    if isinstance(entry.audio, AudioSwitch):
        return entry.setting_field(entry.audio.setting)
    return None


def input_items(inputs: Inputs) -> Iterator[tuple[str, int]]:
    """Each input that is set, by its field, and the number of its items."""
    for field, attribute in _INPUT_FIELDS.items():
        value = getattr(inputs, attribute)
        if value is not None:
            yield field, len(value) if isinstance(value, (tuple, list)) else 1


def _fields(request: VideoInference) -> Iterator[tuple[str, object]]:
    yield "positivePrompt", request.positive_prompt or None
    yield "negativePrompt", request.negative_prompt
    yield "size", request.size or request.width or request.height
    yield "resolution", request.resolution
    yield "duration", request.duration
    yield "fps", request.fps
    yield "seed", request.seed
    yield "numberResults", request.number_results
    yield "outputFormat", request.output_format
    if request.inputs is not None:
        for field, attribute in _INPUT_FIELDS.items():
            yield field, getattr(request.inputs, attribute)
    yield from request.extra_parameters.items()
    yield from settings_fields(request)


def settings_fields(request: VideoInference) -> Iterator[tuple[str, object]]:
    """The model's own settings of a request, by their fields."""
    for name, value in (request.settings or {}).items():
        yield f"settings.{name}", value
    for maker, settings in (request.provider_settings or {}).items():
        if isinstance(settings, Mapping):
            for name, value in settings.items():
                yield f"providerSettings.{maker}.{name}", value
