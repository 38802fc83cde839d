"""Sounds for tests."""

from __future__ import annotations

import io

import av
import numpy as np
from av.audio.frame import AudioFrame


def sound_bytes() -> bytes:
    """A second of silence as WAV."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return buffer.getvalue()
