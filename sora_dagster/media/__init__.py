"""Container, decoding, pictures, measurements and checks of video files."""

from sora_dagster.media.analysis import VideoAnalysis, analyze, analyze_damaged
from sora_dagster.media.container import MediaError, looks_like_video
from sora_dagster.media.decoding import MediaInfo
from sora_dagster.media.last_frame import last_frame

__all__ = [
    "MediaError",
    "MediaInfo",
    "VideoAnalysis",
    "analyze",
    "analyze_damaged",
    "last_frame",
    "looks_like_video",
]
