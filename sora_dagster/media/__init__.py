"""Container, decoding, pictures, measurements and checks of video files."""

from sora_dagster.media.analysis import VideoAnalysis, analyze, analyze_damaged
from sora_dagster.media.container import MediaError, looks_like_video
from sora_dagster.media.decoding import MediaInfo

__all__ = [
    "MediaError",
    "MediaInfo",
    "VideoAnalysis",
    "analyze",
    "analyze_damaged",
    "looks_like_video",
]
