"""What is inside a video file, what it looks like, and whether it is fit to be shown."""

from sora_dagster.media.container import MediaError, looks_like_video
from sora_dagster.media.decoding import MediaInfo
from sora_dagster.media.examining import (
    VideoAnalysis,
    examine,
    examine_damaged,
    poster,
    probe,
)

__all__ = [
    "MediaError",
    "MediaInfo",
    "VideoAnalysis",
    "examine",
    "examine_damaged",
    "looks_like_video",
    "poster",
    "probe",
]
