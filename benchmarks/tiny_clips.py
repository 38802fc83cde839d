"""A model whose videos are all the same tiny file, a dataset of its clips, and a local Runware."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from tests.sandbox_server import Sandbox, sandbox_process

MODEL = "bench:tiny@1"
_MODELS = [
    {
        "air": MODEL,
        "name": "tiny",
        "sizes": {"tiny": ["160x90"]},
        "default_size": "160x90",
        "durations": {"values": [1], "default": 1},
        "prices": {"certainty": "published", "rates": [{"usd_per_second": 0.01}]},
    }
]


def clip_id(number: int) -> str:
    """The id of a row."""
    return f"clip-{number:05d}"


def write_dataset(folder: Path, clips: int) -> dict[str, str]:
    """Write a dataset of so many rows; gives the variables that name its files.

    Arguments:
        folder: folder for the files.
        clips: number of rows.
    """
    models, prompts = folder / "models.yaml", folder / "prompts.jsonl"
    models.write_text(yaml.safe_dump(_MODELS))
    rows = (
        {"id": clip_id(number), "prompt": f"clip {number}", "model": MODEL}
        for number in range(clips)
    )
    # Replaced as a whole: a sensor may read it at any moment.
    new = prompts.with_suffix(".new")
    new.write_text("\n".join(map(json.dumps, rows)))
    new.replace(prompts)
    return {"SORA_PROMPTS": str(prompts), "SORA_MODELS": str(models)}


def tiny_sandbox(folder: Path, *, latency_seconds: float) -> AbstractContextManager[Sandbox]:
    """A local Runware with that model.

    Arguments:
        folder: folder of the dataset; the log is written there.
        latency_seconds: how long a generation takes.
    """
    options = [
        f"--latency={latency_seconds}",
        f"--models={folder / 'models.yaml'}",
        f"--data-dir={folder / 'sandbox'}",
        "--balance=1000000",
        "--reuse-rendered",
    ]
    return sandbox_process(folder, options)
