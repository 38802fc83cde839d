"""The JSON schema of a manifest, for programs that read `clip.json` without this package.

``python -m tests.generation.manifest_schema docs/schemas`` writes it.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sora_dagster.generation.protocol.records import MANIFEST_VERSION, ClipManifest, StoredVideo
from sora_dagster.media.meter import VideoMeasures
from sora_dagster.prompts.clips import ClipRequest, ClipSpec, ParentVideo
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price

SCHEMA_NAME = f"clip.v{MANIFEST_VERSION}.schema.json"

_DESCRIBED: tuple[type[Any], ...] = (
    ClipManifest,
    ClipRequest,
    ClipSpec,
    ParentVideo,
    StoredVideo,
    VideoMeasures,
    ErrorRecord,
    Price,
)
_ARGUMENT = re.compile(r" {4}(\w+): (.*)")


def manifest_schema() -> dict[str, Any]:
    """The schema of manifests written by this version, with descriptions from the docstrings."""
    schema = ClipManifest.model_json_schema(mode="serialization")
    schema["properties"]["format_version"]["const"] = MANIFEST_VERSION
    definitions = schema.get("$defs", {})
    for model in _DESCRIBED:
        _describe(schema if model is ClipManifest else definitions[model.__name__], model)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_NAME,
        **schema,
    }


def manifest_schema_text() -> str:
    """The schema as JSON."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(schema: dict[str, Any], model: type[Any]) -> None:
    documentation = inspect.getdoc(model) or ""
    schema["description"] = documentation.partition("\n")[0].replace("`", "")
    properties = schema.get("properties", {})
    for name, description in _arguments(documentation):
        if name in properties:
            properties[name]["description"] = description.replace("`", "")
    if issubclass(model, BaseModel):
        # Fields that a newer version adds are no error.
        schema.pop("additionalProperties", None)


def _arguments(documentation: str) -> Iterator[tuple[str, str]]:
    """Names and descriptions of the arguments in a docstring."""
    lines = iter(documentation.partition("Arguments:\n")[2].splitlines())
    name, description = "", ""
    for line in lines:
        if match := _ARGUMENT.fullmatch(line):
            if name:
                yield name, description
            name, description = match[1], match[2]
        elif line.startswith("        "):
            description += " " + line.strip()
        else:
            break
    if name:
        yield name, description


def main(folder: Path) -> None:
    """Write the schema into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCHEMA_NAME).write_text(manifest_schema_text())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder to write the schema into, for example docs/schemas")
    main(Path(sys.argv[1]))
