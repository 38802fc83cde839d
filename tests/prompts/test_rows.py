"""The clips and recipes that rows become."""

from pathlib import Path
from typing import Any

import pytest

from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset import (
    DatasetError,
    Recipe,
    load_dataset,
)
from sora_dagster.runware.catalogue import FrameSize
from sora_dagster.runware.catalogue.parts import TextLimits
from tests.prompts.dataset_files import (
    CATALOGUE,
    FORMATS,
    RECIPES,
    Write,
    jsonl,
    load,
    only_problem_of,
    problems_of,
    write_as,
)
from tests.runware.examples import SORA_2

# --- what rows become


def every_column() -> list[dict[str, Any]]:
    # Each row has each column, as a Parquet file has.
    shared = {"output_quality": 80, "safety": "fast", "take": 2}
    return [
        {
            "id": "dawn",
            "prompt": 'Mist over a lake, "slowly" lifting;\na heron: wades — Ünïcödé 🎬',
            "model": "openai:3@2",
            "size": "1792x1024",
            "duration": 8,
            "number_results": 2,
            "output_format": "WEBM",
            "first_frame": None,
            **shared,
            "recipes": ["night", "snow"],
            "tags": ["water", "two words"],
        },
        {
            "id": "Dawn",
            "prompt": "  The same lake  ",
            "model": "openai:3@1",
            "size": None,
            "duration": 4,
            "number_results": 1,
            "output_format": "MOV",
            "first_frame": "https://example.com/lake.png?size=full",
            **shared,
            "recipes": ["snow"],
            "tags": [],
        },
    ]


@pytest.mark.parametrize("extension", FORMATS)
def test_the_same_rows_are_the_same_clips_in_every_format(
    tmp_path: Path, write: Write, extension: str
) -> None:
    write("recipes.yaml", RECIPES)
    dataset = load(write_as(tmp_path, extension, every_column()))
    assert dataset.clips == (
        ClipSpec(
            clip_id="dawn",
            prompt='Mist over a lake, "slowly" lifting;\na heron: wades — Ünïcödé 🎬',
            model="openai:3@2",
            size=FrameSize(1792, 1024),
            duration_seconds=8.0,
            number_results=2,
            output_format="WEBM",
            output_quality=80,
            safety="fast",
            take=2,
            recipes=("night", "snow"),
            tags=("water", "two words"),
        ),
        ClipSpec(
            clip_id="Dawn",
            prompt="The same lake",
            model="openai:3@1",
            duration_seconds=4.0,
            output_format="MOV",
            output_quality=80,
            first_frame="https://example.com/lake.png?size=full",
            safety="fast",
            take=2,
            recipes=("snow",),
        ),
    )


@pytest.mark.parametrize("extension", FORMATS)
def test_a_row_that_says_little_gets_the_defaults_of_its_model(
    tmp_path: Path, extension: str
) -> None:
    rows = [{"id": "a", "prompt": "A lake", "model": "acme:1@1"}]
    [clip] = load(write_as(tmp_path, extension, rows)).clips
    assert clip == ClipSpec(
        clip_id="a",
        prompt="A lake",
        model="acme:1@1",
        size=FrameSize(640, 480),
        duration_seconds=5.0,
    )


def test_a_row_without_a_model_is_for_sora_2_pro(write: Write) -> None:
    [clip] = load(write("p.jsonl", jsonl({"id": "a", "prompt": "A lake"}))).clips
    assert (clip.model, clip.size) == ("openai:3@2", FrameSize(1280, 720))


def test_numbers_with_a_fraction_of_zero_are_whole(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "A lake", "duration": 8.0, "take": 3.0, "number_results": 2.0}]
    [clip] = load(write_as(tmp_path, ".parquet", rows)).clips
    assert (clip.duration_seconds, clip.take, clip.number_results) == (8.0, 3, 2)


@pytest.mark.parametrize("extension", FORMATS)
def test_a_whole_number_is_an_id_as_it_is_written(tmp_path: Path, extension: str) -> None:
    rows = [{"id": 7, "prompt": "A lake"}, {"id": 2024, "prompt": "A hill"}]
    assert load(write_as(tmp_path, extension, rows)).clip_ids == ("7", "2024")


def test_yaml_does_not_make_booleans_octals_or_dates_of_words(write: Write) -> None:
    path = write("p.yaml", "- {id: 007, prompt: A lake, tags: [no, 1:30, 2024-01-05]}\n")
    [clip] = load(path).clips
    assert (clip.clip_id, clip.tags) == ("007", ("no", "1:30", "2024-01-05"))


def test_yaml_rows_can_share_what_they_have_in_common(write: Write) -> None:
    path = write(
        "p.yaml",
        "- &first {id: a, prompt: A lake, size: 1792x1024, duration: 8}\n"
        "- {<<: *first, id: b, duration: 4}\n",
    )
    first, second = load(path).clips
    assert second == first.model_copy(update={"clip_id": "b", "duration_seconds": 4.0})


def test_a_byte_order_mark_is_no_part_of_the_first_column(write: Write) -> None:
    assert load(write("p.csv", b"\xef\xbb\xbfid,prompt\na,A lake\n")).clip_ids == ("a",)


def test_windows_line_ends_and_blank_lines_are_passed_over_but_counted(write: Write) -> None:
    path = write("p.jsonl", '{"id": "a", "prompt": "A lake"}\r\n\r\n{"id": "b"}\r\n')
    assert [problem.line for problem in problems_of(path)] == [3]


def test_cells_that_a_spreadsheet_leaves_empty_are_passed_over(write: Write) -> None:
    path = write("p.csv", "id,prompt,size,,\na,A lake,,,\n,,,,\nb,A hill,1280x720,,\n")
    assert load(path).clip_ids == ("a", "b")


def test_words_of_a_choice_may_be_in_any_case(write: Write) -> None:
    row = {"id": "a", "prompt": "A lake", "output_format": "webm", "safety": "Full"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert (clip.output_format, clip.safety) == ("WEBM", "full")


def test_a_text_with_semicolons_is_a_list_in_json_too(write: Write) -> None:
    row = {"id": "a", "prompt": "A lake", "tags": "water; two words ;;"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert clip.tags == ("water", "two words")


def test_a_dataset_finds_its_clips_and_recipes_by_name(write: Write) -> None:
    path = write(
        "p.yaml",
        "clips:\n"
        "  - {id: a, prompt: A lake, recipes: [snow, night]}\n"
        "  - {id: b, prompt: A hill}\n"
        "  - {id: c, prompt: A road, recipes: night}\n"
        "recipes: {night: At night., snow: Snow.}\n",
    )
    dataset = load(path)
    assert dataset.clip("b").prompt == "A hill"
    assert dataset.recipe("snow") == Recipe("snow", "Snow.")
    assert dataset.remix_cells == (("a", "snow"), ("a", "night"), ("c", "night"))


def test_an_unknown_clip_or_recipe_names_a_near_one(write: Write) -> None:
    dataset = load(write("p.yaml", "clips: [{id: dawn, prompt: Lake}]\nrecipes: {night: Dark.}"))
    with pytest.raises(LookupError, match=r"no clip 'down' \(did you mean 'dawn'"):
        dataset.clip("down")
    with pytest.raises(LookupError, match=r"no recipe 'nights' \(did you mean 'night'"):
        dataset.recipe("nights")


# --- recipes


@pytest.mark.parametrize("name", ["p.recipes.yml", "recipes.yml"])
def test_a_recipes_file_may_end_in_yml(write: Write, name: str) -> None:
    write(name, "night: At night.\n")
    row = {"id": "a", "prompt": "A lake", "recipes": ["night"]}
    assert load(write("p.jsonl", jsonl(row))).recipe("night").prompt == "At night."


def test_recipes_of_the_datasets_own_name_come_before_shared_ones(write: Write) -> None:
    write("recipes.yaml", "night: Shared.\n")
    write("p.recipes.yaml", "night: Own.\n")
    path = write("p.jsonl", jsonl({"id": "a", "prompt": "A lake", "recipes": ["night"]}))
    assert load(path).recipes == (Recipe("night", "Own."),)


def test_recipes_inside_a_dataset_come_before_files_beside_it(write: Write) -> None:
    write("p.recipes.yaml", "night: Beside.\n")
    path = write("p.yaml", "clips: [{id: a, prompt: A lake}]\nrecipes: {night: Inside.}\n")
    assert load(path).recipes == (Recipe("night", "Inside."),)


def test_a_yaml_list_of_clips_has_its_recipes_beside_it(write: Write) -> None:
    write("recipes.yaml", RECIPES)
    path = write("p.yaml", "- {id: a, prompt: A lake, recipes: [snow]}\n")
    assert load(path).remix_cells == (("a", "snow"),)


def test_a_dataset_that_is_called_recipes_is_not_its_own_recipes_file(write: Write) -> None:
    assert load(write("recipes.yaml", "- {id: a, prompt: A lake}\n")).recipes == ()


def test_a_recipe_that_is_not_known_is_a_problem_of_its_item(write: Write) -> None:
    path = write(
        "p.yaml",
        "clips:\n"
        "  - id: a\n"
        "    prompt: A lake\n"
        "    recipes:\n"
        "      - night\n"
        "      - nigth\n"
        "recipes:\n"
        "  night: At night.\n",
    )
    problem = only_problem_of(path)
    assert (problem.line, problem.column, problem.value) == (6, "recipes", "nigth")
    assert "did you mean 'night'" in problem.message


def test_a_recipe_where_there_are_none_says_where_to_write_it(write: Write) -> None:
    path = write("p.csv", "id,prompt,recipes\na,A lake,night\n")
    assert "in p.recipes.yaml" in only_problem_of(path).message


def test_a_recipe_listed_twice_is_a_problem(write: Write) -> None:
    write("recipes.yaml", RECIPES)
    problem = only_problem_of(write("p.csv", "id,prompt,recipes\na,A lake,night;night\n"))
    assert (problem.line, problem.column) == (2, "recipes")


def test_a_remix_by_a_model_that_makes_none_is_a_problem(write: Write) -> None:
    write("recipes.yaml", RECIPES)
    row = {"id": "a", "prompt": "A lake", "model": "acme:1@1", "recipes": ["snow"]}
    problem = only_problem_of(write("p.jsonl", jsonl(row)))
    assert (problem.line, problem.column) == (1, "recipes")
    assert "Acme Plain" in problem.message


def test_a_recipes_prompt_is_held_against_the_limits_of_the_models_that_make_it(
    write: Write,
) -> None:
    short_prompts = SORA_2.model_copy(
        update={"air": "acme:2@1", "short_name": "acme-2", "prompt": TextLimits(max=20)}
    )
    write("recipes.yaml", f"fine: {'x' * 20}\nlong: {'x' * 21}\n")
    rows = [
        {"id": "a", "prompt": "A lake", "recipes": ["fine", "long"]},
        {"id": "b", "prompt": "A lake", "recipes": ["fine", "long"], "model": "acme:2@1"},
    ]
    path = write("p.jsonl", jsonl(*rows))
    with pytest.raises(DatasetError) as caught:
        load_dataset(path, catalogue=CATALOGUE.extended([short_prompts]))
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == ("recipes.yaml", 2)
    assert "21 characters; allowed: 2 to 20 " in problem.message


@pytest.mark.parametrize(
    ("recipes", "line"),
    [
        ("night: At night.\n'a|b': Both.\n", 2),
        ("night: At night.\n\nsnow:\n", 3),
        ("night: At night.\nsnow: [In, snow]\n", 2),
        ("night: At night.\nsnow: S\n", 2),
        ('night: At night.\nsnow: "\\u200b\\u200b\\u200b"\n', 2),
        ("night: At night.\nnight: Again.\n", 2),
        ("- night\n", 1),
        ("night: At night\nsnow: 'In snow\n", 3),
    ],
    ids=["name", "blank", "list", "short", "invisible", "twice", "no mapping", "no YAML"],
)
def test_what_is_wrong_in_a_recipes_file_is_a_problem_at_its_line(
    write: Write, recipes: str, line: int
) -> None:
    write("recipes.yaml", recipes)
    problem = only_problem_of(write("p.jsonl", jsonl({"id": "a", "prompt": "A lake"})))
    assert (problem.file, problem.line) == ("recipes.yaml", line)
