"""Error rate of the quality checks on good and on damaged clips.

    python -m benchmarks.quality_checks

The sandbox renders good clips: the example prompts with their remixes, and each scene six times, in
all sizes, formats and three qualities. FFmpeg makes more good clips and damaged ones from some of
them.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import yaml

from sora_dagster.media.checks import CheckResult, Expected, evaluate
from sora_dagster.runware.catalogue import OutputFormat, parse_size
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.rendering import VideoSpec, render
from tests.media.damaged_clips import DAMAGED_KINDS, FINE_KINDS, found_in

SECONDS = 4.0
EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES = ("1280x720", "720x1280", "1792x1024", "1024x1792", "1920x1080", "1080x1920")
FORMATS: tuple[OutputFormat, ...] = ("MP4", "WEBM", "MOV")
SCENES = (
    "A valley between hills at dawn",
    "A calm lake under the moon at night",
    "Rain over a neon city at midnight",
    "Fog between the pines of a forest",
    "A whale glides past a reef",
    "Aurora over a cabin, deep winter night",
    "A dark planet turns before the stars",
    "Dust in the dark of a studio, macro",
)
# Every third clip of the smallest sizes, since damaging a clip takes longer than rendering it.
DAMAGED_SIZES = (parse_size("1280x720"), parse_size("720x1280"))
DAMAGE_EVERY = 3


@dataclass(frozen=True)
class Clip:
    """A good clip.

    Arguments:
        path: path of its file.
        expected: what was requested.
    """

    path: Path
    expected: Expected


def specs() -> Iterator[VideoSpec]:
    """Specifications of the clips to render."""
    dataset = yaml.safe_load((EXAMPLES / "prompts.yaml").read_text())
    for number, clip in enumerate(dataset["clips"]):
        first_frame = clip.get("first_frame")
        picture = PictureSpec(
            Subject(clip["prompt"], number),
            first_frame=(EXAMPLES / first_frame).read_bytes() if first_frame else None,
        )
        size = parse_size(clip.get("size", "1280x720"))
        output_format = clip.get("output_format", "MP4")
        quality = clip.get("output_quality", 95)
        yield VideoSpec(picture, size, SECONDS, output_format, quality)
        for recipe in dataset["recipes"].values():
            remix = picture.remixed(Subject(recipe, number + 100))
            yield VideoSpec(remix, size, SECONDS, output_format, quality)
    forms = cycle([(parse_size(size), name) for size in SIZES for name in FORMATS])
    for seed in range(1, 7):
        for scene in SCENES:
            size, output_format = next(forms)
            # From high to clearly low quality.
            quality = (95, 60, 30)[seed % 3]
            yield VideoSpec(
                PictureSpec(Subject(scene, seed)), size, SECONDS, output_format, quality
            )


def rendered(spec: VideoSpec, path: Path) -> Clip:
    """Render a good clip."""
    render(spec, path)
    return Clip(path, Expected(spec.size, spec.duration_seconds, spec.output_format))


def failed(path: Path, expected: Expected) -> list[CheckResult]:
    """The failed checks of a clip."""
    return [result for result in evaluate(expected, found_in(path)) if result.failed]


def main() -> None:
    counts: Counter[str] = Counter()
    own: Counter[str] = Counter()
    others: defaultdict[str, list[str]] = defaultdict(list)

    def count(name: str, wanted: str | None, path: Path, expected: Expected, what: str) -> None:
        counts[name] += 1
        for result in failed(path, expected):
            if result.name == wanted:
                own[name] += 1
            else:
                others[name].append(f"{what}: {result.name}: {result.description}")

    kinds = [*FINE_KINDS, *DAMAGED_KINDS]
    with tempfile.TemporaryDirectory() as folder:
        small_clips = 0
        for number, spec in enumerate(specs(), 1):
            print(f"\r{number} clips", end="", file=sys.stderr, flush=True)
            path = Path(folder) / f"clip.{spec.output_format.lower()}"
            clip = rendered(spec, path)
            what = f"{spec.picture.subject.prompt.split('.')[0]!r}, {spec.size}"
            count("as rendered", None, path, clip.expected, what)
            small_clips += spec.size in DAMAGED_SIZES
            if spec.size in DAMAGED_SIZES and small_clips % DAMAGE_EVERY == 1:
                for kind in kinds:
                    made = kind.make(path, Path(folder))
                    count(kind.name, kind.fails, made, clip.expected, what)
                    made.unlink()

    print(file=sys.stderr)
    print("| clips | check that must fail | n | it failed | another failed |")
    print("| --- | --- | ---: | ---: | ---: |")
    checks = {kind.name: kind.fails for kind in kinds}
    for name, n in counts.items():
        check = checks.get(name)
        failures = f"| `{check}` | {n} | {own[name]}" if check else f"| none | {n} | –"
        print(f"| {name} {failures} | {len(others[name])} |")
    for name, wrong in others.items():
        for failure in wrong:
            print(f"{name}: {failure}")


if __name__ == "__main__":
    main()
