"""Invented models for tests: between them they use all that a catalogue entry can say."""

from __future__ import annotations

from typing import Any

from sora_dagster.runware.catalogue import Catalogue, VideoModel

# Takes everything, with the rules between fields that live models have.
FULL = VideoModel.model_validate(
    {
        "air": "maker:full@1",
        "name": "Full 1",
        "prompt": {"min": 2, "max": 500},
        "negative_prompt": {"min": 1, "max": 100},
        "sizes": {"240p": ["426x240", "240x426"], "360p": ["640x360", "360x640", "480x480"]},
        "default_size": "426x240",
        "resolutions": ["240p", "360p"],
        "durations": {"min": 1, "max": 10, "auto": True, "default": 2},
        "seed": {"min": 0, "max": 4294967295},
        "fps": {"values": [24, 25, 50]},
        "audio": {"setting": "audio", "default": True},
        "inputs": {
            "frameImages": {"max": 3, "positions": ["first", "last"], "by_index": True,
                            "by_time": True},
            "referenceImages": {"max": 2},
            "referenceVideos": {"max": 2, "max_seconds": 12},
            "referenceAudios": {"max": 1},
            "video": {"max_seconds": 12},
        },
        "settings": {
            "audio": {"type": "boolean", "default": True},
            "operation": {"type": "text", "values": ["edit", "extend"]},
            "temperature": {"type": "number", "min": 0, "max": 2},
            "enhance": {"at": "providerSettings.maker", "type": "boolean"},
            "steps": {"at": "request", "type": "integer", "min": 1, "max": 50},
            "shots": {"at": "providerSettings.maker", "type": "any"},
        },
        "output_formats": ["MP4", "WEBM", "MOV"],
        "rules": [
            {"at_most_one_of": ["size", "resolution"]},
            {"if": {"inputs.frameImages": "given"}, "forbid": ["size", "inputs.referenceImages"]},
            {"if": {"inputs.video": "given"}, "forbid": ["size", "seed"]},
            {"if": {"inputs": "missing"}, "require": ["size"]},
            {"if": {"settings.operation": "edit"}, "allow": {"duration": ["auto"]},
             "require": ["inputs.video"]},
            {"if": {"fps": 50}, "allow": {"duration": {"min": 1, "max": 4}}},
            {"if": {"fps": 24}, "allow": {"size": ["426x240", "240x426"]}},
            {"if": {"size": "480x480"}, "allow": {"duration": {"min": 1, "max": 5}}},
            {"if": {"inputs.video": "given"}, "max_items": {"inputs.referenceImages": 1}},
        ],
        "remix": {
            "edit": {"input": "video", "duration": "auto", "settings": {"operation": "edit"},
                     "result_length": "parent"},
            "extend": {"input": "video", "settings": {"operation": "extend"}},
        },
        "prices": {
            "certainty": "published",
            "rates": [
                {"if": {"tier": "240p", "audio": False}, "usd_per_second": 0.10},
                {"if": {"tier": "240p"}, "usd_per_second": 0.20},
                {"if": {"tier": "360p"}, "usd_per_second": 0.40},
            ],
            "input_image_usd": 0.01,
            "free_input_images": 1,
            "input_video_second_usd": 0.05,
        },
    }
)  # fmt: skip

# Sizes by rule, silent, without a price.
RULED = VideoModel.model_validate(
    {
        "air": "maker:ruled@1",
        "name": "Ruled 1",
        "size_rule": {"min": 128, "max": 1024, "step": 64,
                      "tiers": {"small": 262144, "large": 1048576}},
        "default_size": "512x256",
        "resolutions": ["small", "large"],
        "default_resolution": "small",
        "durations": {"values": [1, 2], "default": 1},
        "inputs": {"frameImages": {}},
        "prices": {"certainty": "unknown"},
    }
)  # fmt: skip

# An editor: a video in, no size, no length, no seed.
EDITOR = VideoModel.model_validate(
    {
        "air": "maker:editor@1",
        "name": "Editor 1",
        "audio": "always",
        "inputs": {"video": {"min_seconds": 1, "max_seconds": 20}},
        "rules": [{"require": ["inputs.video"]}],
        "remix": {"edit": {"input": "video", "result_length": "parent"}},
        "prices": {"certainty": "approximate", "rates": [{"usd_per_second": 0.5}]},
    }
)

# Guided by reference videos; its own default length is "auto".
GUIDED = VideoModel.model_validate(
    {
        "air": "maker:guided@1",
        "name": "Guided 1",
        "resolutions": ["240p"],
        "default_resolution": "240p",
        "durations": {"min": 2, "max": 6, "auto": True, "default": "auto"},
        "audio": "never",
        "inputs": {"referenceVideos": {"max": 3}},
        "prices": {"certainty": "published", "rates": [{"usd": 0.25}]},
    }
)

MODELS = Catalogue.builtin().extended([FULL, RULED, EDITOR, GUIDED])


def full_task(**fields: Any) -> dict[str, Any]:
    """The fields of a valid task for the model that takes everything."""
    return {"model": FULL.air, "width": 426, "height": 240, "duration": 1, **fields}
