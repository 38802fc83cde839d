"""A dataset of one-second clips, each with a remix, of a model that is quick to render."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

RECIPE = "night"
_MODELS = [
    {
        "air": "tests:tiny@1",
        "name": "tiny",
        "sizes": {"tiny": ["160x90"]},
        "default_size": "160x90",
        "durations": {"values": [1], "default": 1},
        "inputs": {"videoId": {}},
        "rules": [{"exactly_one_of": ["inputs.videoId", "size"]}],
        "remix": {"remix": {"input": "videoId", "result_length": "parent"}},
        "prices": {"certainty": "published", "rates": [{"usd_per_second": 0.1}]},
    }
]


def write_tiny_dataset(folder: Path, clips: Sequence[str]) -> dict[str, str]:
    """Write the dataset and the model; gives the environment variables that name them.

    Arguments:
        folder: where they go.
        clips: ids of the clips.
    """
    prompts, models = folder / "prompts.yaml", folder / "models.yaml"
    rows = [{"id": clip, "prompt": f"a {clip}", "recipes": [RECIPE]} for clip in clips]
    recipes = {RECIPE: "the same at night"}
    prompts.write_text(yaml.safe_dump({"clips": rows, "recipes": recipes}))
    models.write_text(yaml.safe_dump(_MODELS))
    return {"SORA_PROMPTS": str(prompts), "SORA_MODELS": str(models), "SORA_MODEL": "tiny"}
