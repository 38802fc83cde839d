"""The model catalogue: what each video model accepts and what it costs, as data.

A model is used only through its entry, so a request is checked and priced before it is sent, and
a retired model is replaced by naming another one.
"""

from sora_dagster.runware.catalogue.catalogue import DEFAULT_MODEL, Catalogue
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.parts import (
    InputName,
    OutputFormat,
    RemixMode,
    RemixWay,
    SafetyMode,
)
from sora_dagster.runware.catalogue.sizes import FrameSize, Size, parse_size

__all__ = [
    "DEFAULT_MODEL",
    "Catalogue",
    "FrameSize",
    "InputName",
    "OutputFormat",
    "RemixMode",
    "RemixWay",
    "SafetyMode",
    "Size",
    "VideoModel",
    "parse_size",
]
