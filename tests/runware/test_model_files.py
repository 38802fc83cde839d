"""Files of catalogue entries, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sora_dagster.runware import Catalogue, VideoModel
from sora_dagster.runware.catalogue.entry_files import ModelFileError

ENTRY = """\
- air: acme:1@2
  name: Acme Two
  sizes:
    720p: [1280x720]
    1080p: [1920x1080]
  default_size: 1280x720
  resolutions: [720p, 1080p]
  durations: {values: [4, 6, 8], default: 4}
  fps: {values: [24, 48]}
  audio: {setting: audio, default: true}
  inputs:
    frameImages: {max: 2}
    video: {max_seconds: 30}
  settings:
    audio: {type: boolean, default: true}
    mode: {type: text, values: [fast, slow]}
  rules:
    - at_most_one_of: [size, resolution]
    - if: {inputs.video: given}
      forbid: [size]
  remix:
    edit: {input: video, duration: parent}
  prices:
    certainty: published
    rates:
      - {if: {tier: 720p}, usd_per_second: 0.20}
      - {if: {tier: 1080p}, usd_per_second: 0.40}
"""

Problems = Callable[[str], list[str]]


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """What is wrong with a file, one line each; the file must be wrong."""

    def read(text: str, name: str = "m.yaml") -> list[str]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ModelFileError) as caught:
            Catalogue.from_yaml(path)
        return [str(problem) for problem in caught.value.problems]

    return read


def test_a_file_holds_one_entry_or_a_list(tmp_path: Path) -> None:
    one = yaml.safe_dump(yaml.safe_load(ENTRY)[0])
    for text in (ENTRY, one):
        path = tmp_path / "models.yaml"
        path.write_text(text, encoding="utf-8")
        assert Catalogue.from_yaml(path).get("acme-two").air == "acme:1@2"


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_a_json_file_holds_the_same_entries(tmp_path: Path, indent: Any) -> None:
    path = tmp_path / "models.json"
    path.write_text(json.dumps(yaml.safe_load(ENTRY), indent=indent), encoding="utf-8")
    from_json = Catalogue.from_yaml(path).get("acme-two")
    (tmp_path / "models.yaml").write_text(ENTRY, encoding="utf-8")
    assert from_json == Catalogue.from_yaml(tmp_path / "models.yaml").get("acme-two")


def test_a_folder_holds_files_of_entries(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(ENTRY, encoding="utf-8")
    three = ENTRY.replace("acme:1@2", "acme:1@3").replace("Acme Two", "Acme Three")
    (tmp_path / "three.json").write_text(json.dumps(yaml.safe_load(three)), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not an entry", encoding="utf-8")
    (tmp_path / ".#two.yaml").write_text("not an entry", encoding="utf-8")
    (tmp_path / "old.yaml").mkdir()
    catalogue = Catalogue.from_yaml(tmp_path)
    assert {"acme-two", "acme-three"} <= set(catalogue.names)


def test_a_folder_without_files_of_entries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no file that ends in \.yaml, \.yml, \.json"):
        Catalogue.from_yaml(tmp_path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read: no such file"):
        Catalogue.from_yaml(tmp_path / "missing.yaml")


def test_all_problems_of_a_file_are_in_one_error(problems: Problems) -> None:
    text = """\
- air: acme
  nome: Acme One
  sizes: {720p: [1280]}
  durations: {values: [4, .inf], default: "4"}
  seed: {min: 0, max: 010}
  audio: {seting: audio, default: true}
  inputs: {frameImage: {max: 2}}
  output_formats: MP4
  retired: soon
  prices: {certainty: sure}
- just a text
- air: acme:1@2
  name: Acme Two
  name: Acme 2
  prompt: !include prompt.yaml
  rules: [{alow: {duration: [4]}}, {allow: {duration: {min: 4}}}, {if: {size: [[1]]}}]
  prices: {certainty: unknown}
"""
    found = problems(text)
    places = [problem.partition("'")[0] + problem.split("'")[1] for problem in found]
    assert places == [
        "m.yaml:1: field air",
        "m.yaml:1: field name",
        "m.yaml:2: field nome",
        "m.yaml:3: field sizes.720p.1",
        "m.yaml:4: field durations.values.2",
        "m.yaml:4: field durations.default",
        "m.yaml:5: field seed.max",
        "m.yaml:6: field audio.setting",
        "m.yaml:6: field audio.seting",
        "m.yaml:7: field inputs.frameImage",
        "m.yaml:8: field output_formats",
        "m.yaml:9: field retired",
        "m.yaml:10: field prices.certainty",
        "m.yaml:11: just a text",
        "m.yaml:14: field name",
        "m.yaml:15: the tag !include",
        "m.yaml:15: field prompt",
        "m.yaml:16: field rules.1.alow",
        "m.yaml:16: field rules.2.allow.duration",
        "m.yaml:16: field rules.3.if.size.1",
    ]
    assert "allowed: an AIR id (Runware's id of a model), such as google:3@2" in found[0]
    assert "did you mean 'name'?" in found[2]
    assert "did you mean 'setting'?); allowed: setting, default" in found[8]
    assert "did you mean 'frameImages'?" in found[9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.yaml: the file is empty; expected: a list of model entries"),
        ("a text", "m.yaml:1: 'a text' is not an entry"),
        ("- air: [}", "m.yaml:1: this is not YAML"),
        ("- air: acme:1@2\n  air: acme:1@2", "m.yaml:2: field 'air': the name is given twice"),
        ("- name: a\x07b", "m.yaml:1: the character U+0007 is not allowed"),
        ('- name: "a\\u202eb"', "m.yaml:1: field 'name': the character U+202E is not allowed"),
        ("- max_results: .nan", "m.yaml:1: field 'max_results': '.nan' is not allowed"),
        ("- max_results: 1e999", "m.yaml:1: field 'max_results': '1e999' is not allowed"),
        (
            "- max_results: true",
            "m.yaml:1: field 'max_results': true is not allowed; allowed: a whole number",
        ),
        ('- max_results: "2"', "m.yaml:1: field 'max_results': '2' is not allowed"),
        ("- &a {settings: {x: *a}}", "m.yaml:1: the entry is too large"),
        ("- name:\n   - &a [1]\n   - [" + "*a, " * 40 + "*a]", "m.yaml:1: field 'name'"),
    ],
)
def test_what_is_not_an_entry_is_reported_with_its_line(
    problems: Problems, text: str, message: str
) -> None:
    assert any(problem.startswith(message) for problem in problems(text))


def test_a_small_file_does_not_become_endless_data(problems: Problems) -> None:
    lines = ["- air: acme:1@2", "  a0: &a0 [1, 2]"]
    lines += [f"  a{i}: &a{i} [" + f"*a{i - 1}, " * 9 + f"*a{i - 1}]" for i in range(1, 12)]
    [problem] = problems("\n".join(lines))
    assert "the entry is too large" in problem


def test_a_json_file_is_read_as_strictly(tmp_path: Path) -> None:
    for text, message in (
        ('[{"air": "acme:1@2",\n"max_results": NaN}]', "NaN is not a JSON value"),
        ('[{"air": "acme:1@2",\n1}]', r"m\.json:2: this is not JSON"),
        ("- air: acme:1@2", r"m\.json:1: this is not JSON"),
        ('[{"air": "acme:1@2",\n"air": "acme:1@2"}]', r"m\.json:2: field 'air': .* twice"),
    ):
        path = tmp_path / "m.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ModelFileError, match=message):
            Catalogue.from_yaml(path)


def test_a_model_twice_is_an_error_with_both_lines(problems: Problems) -> None:
    [problem] = problems(ENTRY + ENTRY)
    assert problem.startswith("m.yaml:28: field 'air': acme:1@2 has an entry in m.yaml, line 1")


@pytest.mark.parametrize("name", ["Acme Two", "Sora 2"])
def test_a_short_name_of_two_models_is_an_error(problems: Problems, name: str) -> None:
    second = ENTRY.replace("acme:1@2", "acme:1@3").replace("Acme Two", name)
    [problem] = problems(ENTRY + second)
    assert problem.startswith("m.yaml:29: field 'short_name': ")
    assert "set another short_name" in problem


def test_an_entry_may_take_the_name_of_the_model_that_it_replaces(tmp_path: Path) -> None:
    replaced = ENTRY.replace("acme:1@2", "openai:3@1").replace("Acme Two", "Old Sora")
    other = ENTRY.replace("Acme Two", "Sora 2")
    path = tmp_path / "models.yaml"
    path.write_text(replaced + other, encoding="utf-8")
    catalogue = Catalogue.from_yaml(path)
    assert (catalogue.get("sora-2").air, catalogue.get("old-sora").air) == (
        "acme:1@2",
        "openai:3@1",
    )


def test_a_name_without_a_letter_needs_a_short_name(problems: Problems) -> None:
    [problem] = problems(ENTRY.replace("Acme Two", "é"))
    assert "set short_name" in problem


def test_a_retirement_may_lie_ahead(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(ENTRY + "  retired: 2999-01-01\n", encoding="utf-8")
    retired = Catalogue.from_yaml(path).get("acme-two").retired
    assert str(retired) == "2999-01-01"


CONTRADICTIONS = [
    ("default_size: 1280x720", "default_size: 720x1280", 6, "720x1280 is not an allowed size"),
    ("default: 4}", "default: 5}", 8, "default 5.0 is not allowed"),
    ("values: [4, 6, 8]", "min: 8, max: 4", 8, "min 8 is above max 4"),
    ("[1920x1080]", "[1920x1080, 1280x720]", 5, "1280x720 is listed twice"),
    ("[720p, 1080p]", "[720p, 720p]", 7, "'720p' is listed twice"),
    ("[720p, 1080p]", "[720p, 4K]", 23, "there is no rate for tier '4K'"),
    ("{max: 2}", "{max: 2, min_pixels: 9, max_pixels: 8}", 12, "min_pixels 9 is above max_pixels"),
    ("max_seconds: 30", "max_seconds: 30, min_seconds: 31", 13, "min_seconds 31 is above"),
    ("{setting: audio,", "{setting: mode,", 10, "'mode' is not a boolean of settings"),
    (
        "{type: boolean, default: true}",
        "{type: boolean, default: false}",
        10,
        "the default is true",
    ),
    ("mode: {", "seed: {at: request, ", 16, "seed is a field of every request, not a setting"),
    ("[fast, slow]", "[fast, 3]", 16, "3 is not allowed; allowed: a string"),
    ("[fast, slow]}", "[fast, slow], default: slw}", 16, "slw is not allowed; allowed: fast, slow"),
    ("[size, resolution]", "[sise, resolution]", 18, "no field 'sise' (did you mean 'size'?)"),
    ("[size, resolution]", "[size, tier]", 18, "'tier' may stand only in 'if'"),
    ("{inputs.video: given}", "{inputs.video: [given, missing]}", 19, "always either given or"),
    ("{inputs.video: given}", "{tier: 4k}", 19, "there is no tier '4k'; tiers: 720p, 1080p"),
    ("forbid: [size]", "require: [seed]", 19, "seed is required, but the model does not take"),
    ("forbid: [size]", "exactly_one_of: [seed, negativePrompt]", 19, "the model takes none"),
    ("forbid: [size]", "allow: {duration: [7]}", 20, "the model allows no duration of 7"),
    ("forbid: [size]", "allow: {duration: {min: 10, max: 20}}", 20, "no duration of 10 to 20"),
    ("forbid: [size]", "allow: {settings.mode: [slw]}", 20, "no settings.mode of slw"),
    ("forbid: [size]", "max_items: {inputs.referenceImages: 2}", 20, "no inputs.referenceImages"),
    ("forbid: [size]", "forbid: [size]\n      require: [size]", 19, "both forbidden and required"),
    ("- at_most_one_of: [size, resolution]", "- forbid: [size]", 6, "with the defaults is refused"),
    (
        "- at_most_one_of: [size, resolution]",
        "- {if: {size: given}, allow: {duration: [6]}}",
        8,
        "with the defaults is refused",
    ),
    ("input: video, duration: parent", "input: videoId", 22, "does not accept inputs.videoId"),
    ("duration: parent", "duration: 7", 22, "7 is not allowed; allowed: 4, 6, 8 seconds"),
    ("duration: parent", "duration: auto", 22, "auto is not allowed"),
    ("duration: parent", "size: parent", 22, "its request is refused: size is not allowed"),
    ("duration: parent", "settings: {mod: fast}", 22, "no such setting (did you mean 'mode'?)"),
    ("duration: parent", "settings: {mode: slw}", 22, "slw is not allowed; allowed: fast, slow"),
    ("{tier: 1080p}", "{tier: 4K}", 27, "there is no tier '4K'"),
    ("forbid: [size]", "allow: {size: [1280x0720]}", 20, "the model allows no size of 1280x0720"),
    ("{inputs.video: given}", "{inputs.video: [a]}", 19, "inputs.video is never a; allowed: given"),
    (
        "{tier: 1080p}",
        "{size: 1080x1920}",
        27,
        "size is never 1080x1920; allowed: given, missing, 1",
    ),
    ("{tier: 1080p}", "{size: 1920x1080}", 27, "prices depend on tiers, not on sizes"),
    ("{tier: 1080p}", "{tier: 720p, fps: 24}", 27, "the rate never counts, since rate 1 counts"),
    ("{tier: 1080p}", "{tier: 1080p, fps: 25}", 27, "the rate never counts: fps is never 25"),
    ("{tier: 1080p}", "{tier: 1080p, inputs.videoId: given}", 27, "inputs.videoId is never given"),
    ("{tier: 1080p}", "{tier: 1080p, audio: true}", 23, "tier '1080p' with audio false"),
    ("usd_per_second: 0.40", "usd_per_second: 0", 23, "rate 2 is 0 USD, which no spending limit"),
    ("certainty: published", "certainty: unknown", 23, "there are rates, so the certainty must be"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), CONTRADICTIONS)
def test_an_entry_that_contradicts_itself_is_refused_with_the_line(
    problems: Problems, old: str, new: str, line: int, message: str
) -> None:
    assert ENTRY.count(old) == 1
    found = problems(ENTRY.replace(old, new))
    assert [
        problem
        for problem in found
        if message in problem and problem.startswith(f"m.yaml:{line}: ")
    ], found


def test_a_catalogue_refuses_an_entry_that_contradicts_itself() -> None:
    data = yaml.safe_load(ENTRY)[0] | {"default_size": "720x1280"}
    entry = VideoModel.model_validate(data)
    with pytest.raises(ValueError, match=r"acme:1@2 contradicts itself: default_size: 720x1280"):
        Catalogue([entry])
