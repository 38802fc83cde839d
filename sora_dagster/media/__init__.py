"""What is inside a video file, what it looks like, and whether it is fit to be shown."""

from sora_dagster.media.container import MediaError
from sora_dagster.media.decoding import MediaInfo
from sora_dagster.media.examining import Examination, examine, poster, probe

__all__ = ["Examination", "MediaError", "MediaInfo", "examine", "poster", "probe"]
