"""The facts of a video file."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from sora_dagster.media import MediaInfo, analyze


def probe(source: BinaryIO | Path) -> MediaInfo:
    """Decode all of a video, and return its facts only."""
    return analyze(source).info
