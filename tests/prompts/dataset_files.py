"""Writes dataset files, and loads them with the catalogue of these tests."""

import base64
import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from PIL import ExifTags, Image

from sora_dagster.generation.requesting.payloads import build_inference
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.prompts.dataset import (
    DatasetError,
    PromptDataset,
    load_dataset,
)
from sora_dagster.runware.catalogue import Catalogue, FrameSize, VideoModel
from sora_dagster.runware.catalogue.numbers import Durations
from sora_dagster.runware.catalogue.parts import Rule, TextLimits
from sora_dagster.runware.catalogue.prices import Prices, Rate
from sora_dagster.user_files.problems import FileProblem

EXAMPLE = Path(__file__).parents[2] / "examples" / "prompts.yaml"

# A model that takes neither first frames nor video ids, and delivers one container.
PLAIN_MODEL = VideoModel(
    air="acme:1@1",
    name="Acme Plain",
    sizes={"480p": (FrameSize(640, 480),)},
    default_size=FrameSize(640, 480),
    durations=Durations(values=(2.5, 5), default=5),
    prompt=TextLimits(max=40),
    max_results=2,
    rules=(Rule(require=("size",)),),
    prices=Prices(certainty="published", rates=(Rate(usd_per_second=0.05),)),
)
CATALOGUE = Catalogue.builtin().extended([PLAIN_MODEL])
RECIPES = "night: At night.\nsnow: In snow.\n"
FORMATS = [".jsonl", ".ndjson", ".csv", ".tsv", ".yaml", ".yml", ".parquet"]

Write = Callable[[str, str | bytes], Path]


def load(path: Path) -> PromptDataset:
    return load_dataset(path, catalogue=CATALOGUE)


def error_of(path: Path) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        load(path)
    return caught.value


def problems_of(path: Path) -> tuple[FileProblem, ...]:
    return error_of(path).problems


def only_problem_of(path: Path) -> FileProblem:
    [problem] = problems_of(path)
    return problem


def jsonl(*rows: Mapping[str, object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv_text(rows: Sequence[Mapping[str, object]], separator: str = ",") -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    output = io.StringIO(newline="")
    writer = csv.DictWriter(output, columns, delimiter=separator)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _csv_cell(value) for name, value in row.items()})
    return output.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return ";".join(map(str, value))
    return json.dumps(value) if isinstance(value, Mapping) else value


def write_as(folder: Path, extension: str, rows: Sequence[Mapping[str, object]]) -> Path:
    path = folder / f"prompts{extension}"
    if extension == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(map(dict, rows))), path)
    elif extension in (".csv", ".tsv"):
        separator = "\t" if extension == ".tsv" else ","
        path.write_text(csv_text(rows, separator), encoding="utf-8", newline="")
    elif extension in (".jsonl", ".ndjson"):
        path.write_text(jsonl(*rows), encoding="utf-8")
    else:
        text = yaml.safe_dump(list(map(dict, rows)), allow_unicode=True, sort_keys=False)
        path.write_text(text, encoding="utf-8")
    return path


def image_bytes(
    width: int, height: int, image_format: str = "PNG", *, orientation: int | None = None
) -> bytes:
    output = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (width, height), (90, 40, 120)).save(output, image_format, exif=exif)
    return output.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def sent_images(clip: ClipSpec, catalogue: Catalogue | None = None) -> list[str]:
    """The images of a clip's API request, in their order."""
    inputs = build_inference(
        ClipRequest(asset="clips", clip=clip.clip_id, spec=clip),
        task_uuid="0b4f1f5e-5c5e-4d2f-9c59-6a1b6f0c2b11",
        catalogue=catalogue or Catalogue.builtin(),
        webhook=None,
        hosted_seconds=None,
    ).inputs
    assert inputs is not None
    return [
        item if isinstance(item, str) else item.image
        for item in (*(inputs.frame_images or ()), *(inputs.reference_images or ()))
    ]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
