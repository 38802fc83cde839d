"""The size of a video whose request has none: by tier, and by the shape of its input."""

from __future__ import annotations

import math
import re

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.sandbox.request_form import VideoRequest

_WIDESCREEN = FrameSize(16, 9)
# Lines of the tiers whose name has none.
_LINES = {"2k": 1440, "4k": 2160, "8k": 4320}


def video_size(request: VideoRequest, input_size: FrameSize | None) -> FrameSize:
    """The size of a request's videos, in even numbers.

    A requested size counts first, then the requested resolution tier, then the model's default
    tier, both in the shape of the input; without a tier, the size of the input, then the model's
    default size. Where a model deviates is not documented.

    Arguments:
        request: the request.
        input_size: size of the input video or of the first frame. None: there is none.
    """
    entry = request.entry
    if request.size is not None:
        return even_size(request.size)
    tier = request.resolution or entry.default_resolution
    if tier is None:
        return even_size(input_size or entry.default_size or FrameSize(1280, 720))
    if request.resolution is None and input_size is None and entry.default_size is not None:
        return even_size(entry.default_size)
    return even_size(_size_of_tier(entry, tier, input_size or _WIDESCREEN))


def even_size(size: FrameSize) -> FrameSize:
    """A size rounded down to even numbers, which the encoders require."""
    return FrameSize(max(size.width // 2 * 2, 2), max(size.height // 2 * 2, 2))


def _size_of_tier(entry: VideoModel, tier: str, shape: FrameSize) -> FrameSize:
    if sizes := entry.sizes.get(tier):
        ratio = shape.width / shape.height
        return min(sizes, key=lambda size: abs(math.log(size.width / size.height / ratio)))
    if entry.size_rule is not None and tier in entry.size_rule.tiers:
        scale = math.sqrt(entry.size_rule.tiers[tier] / shape.pixels)
        # A step below the limit, since rounding to steps may exceed it.
        for share in (1.0, 0.95, 0.9, 0.8, 0.7):
            wanted = FrameSize(*(max(round(side * scale * share), 2) for side in shape))
            size = entry.size_rule.nearest(wanted)
            if entry.size_rule.tier_of(size) == tier:
                return size
    lines = _LINES.get(tier.lower()) or int((re.findall(r"\d+", tier) or ["720"])[0])
    scale = lines / min(shape)
    return FrameSize(round(shape.width * scale), round(shape.height * scale))
