"""Storyboard files: what they say, and all that can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sora_dagster.prompts.boards import Board, load_board
from sora_dagster.prompts.files import DatasetError
from sora_dagster.runware.catalogue import Catalogue

Load = Callable[[str], Board]
Problems = Callable[[str], list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def read(text: str) -> Board:
        path = tmp_path / "glade.yaml"
        path.write_text(text)
        return load_board(path, catalogue=Catalogue.builtin())

    return read


@pytest.fixture
def problems(load: Load) -> Problems:
    """What is wrong with a text, one line each; the text must be wrong."""

    def read(text: str) -> list[str]:
        with pytest.raises(DatasetError) as caught:
            load(text)
        return [str(problem) for problem in caught.value.problems]

    return read


def family(board: Board) -> list[tuple[str, str | None, int]]:
    return [(shot.id, shot.parent, shot.level) for shot in board.shots]


def test_nested_remixes_and_named_parents_make_the_same_board(load: Load) -> None:
    nested = load("""
shots:
  - id: fox
    prompt: a fox
    remixes:
      - id: night
        prompt: at night
        remixes: [{id: moon, prompt: the moon rises}]
      - {id: snow, prompt: in snow}
""")
    flat = load("""
shots:
  - {id: moon, prompt: the moon rises, parent: night}
  - {id: night, prompt: at night, parent: fox}
  - {id: fox, prompt: a fox}
  - {id: snow, prompt: in snow, parent: fox}
""")
    assert family(nested) == family(flat)
    assert family(nested) == [
        ("fox", None, 0),
        ("night", "fox", 1),
        ("snow", "fox", 1),
        ("moon", "night", 2),
    ]
    assert {s.id: s.spec.fingerprint for s in nested.shots} == {
        s.id: s.spec.fingerprint for s in flat.shots
    }


def test_a_board_is_named_by_its_file_or_itself(load: Load) -> None:
    assert load("shots: [{id: fox, prompt: a fox}]").name == "glade"
    assert load("board: hill\nshots: [{id: fox, prompt: a fox}]").name == "hill"


def test_defaults_hold_for_shots_that_do_not_say_otherwise(load: Load) -> None:
    board = load("""
defaults: {size: 1792x1024, duration: 8, output_format: WEBM, tags: [wood]}
shots:
  - {id: fox, prompt: a fox}
  - {id: owl, prompt: an owl, size: 1280x720, tags: [night]}
  - {id: bee, prompt: a bee, first_frame: https://example.com/bee.png}
""")
    fox, owl, bee = (board.shot(shot).spec for shot in ("fox", "owl", "bee"))
    assert (str(fox.size), fox.duration_seconds, fox.output_format) == ("1792x1024", 8.0, "WEBM")
    assert (str(owl.size), owl.duration_seconds) == ("1280x720", 8.0)
    assert (fox.tags, owl.tags) == (("wood",), ("night",))
    assert bee.size is None


def test_a_remix_takes_model_size_and_length_from_its_start(load: Load) -> None:
    board = load("""
defaults: {size: 1280x720, duration: 8, output_quality: 80}
shots:
  - {id: fox, prompt: a fox, model: "openai:3@1", remixes: [{id: night, prompt: at night}]}
""")
    night = board.shot("night").spec
    assert (night.model, night.size, night.duration_seconds) == ("openai:3@1", None, None)
    assert night.output_quality == 80


def test_an_alias_may_carry_fields_over(load: Load) -> None:
    board = load("""
shots:
  - &fox {id: fox, prompt: a fox, duration: 8}
  - {<<: *fox, id: owl}
""")
    assert board.shot("owl").spec.prompt == "a fox"
    assert board.shot("owl").spec.duration_seconds == 8.0


def test_all_problems_are_reported_at_once_with_their_lines(problems: Problems) -> None:
    found = problems("""
shots:
  - {id: fox, prompt: a fox, parent: wolf}
  - {id: red-fox, prompt: a red fox}
  - {id: owl, prompt: an owl, duration: 5}
  - {id: owl, prompt: another owl}
  - id: bee
    prompt: a bee
    remixes:
      - {id: hive, prompt: the hive, size: 1280x720, duration: 8, first_frame: x.png}
extra: 1
""")
    expected = {
        "glade.yaml:3: column 'parent': there is no shot 'wolf'",
        "glade.yaml:4: column 'id': 'red-fox' cannot be the id of a shot",
        "glade.yaml:5: column 'duration': the duration is 5 seconds; allowed: 4, 8, 12",
        "glade.yaml:6: column 'id': 'owl' is already the id of line 5",
        "glade.yaml:10: column 'size': a remix has no size, as",
        "glade.yaml:10: column 'first_frame': a remix has no first frame, as",
        "glade.yaml:11: 'extra' is not allowed here",
    }
    assert len(found) == len(expected)
    for start in expected:
        assert any(problem.startswith(start) for problem in found), (start, found)


def test_a_cycle_of_parents_is_reported_once_by_name(problems: Problems) -> None:
    found = problems("""
shots:
  - {id: a, prompt: a fox, parent: c}
  - {id: b, prompt: an owl, parent: a}
  - {id: c, prompt: a bee, parent: b}
  - {id: d, prompt: a yak, parent: c}
""")
    assert len(found) == 1
    assert found[0].startswith("glade.yaml:3: column 'parent': the shots form a cycle: ")
    assert "'a' → 'c' → 'b' → 'a'" in found[0]


def test_a_shot_cannot_be_its_own_parent(problems: Problems) -> None:
    [problem] = problems("shots: [{id: fox, prompt: a fox, parent: fox}]")
    assert "'fox' → 'fox'" in problem


@pytest.mark.parametrize(
    "text",
    [
        "shots:\n  - &fox {id: fox, prompt: a fox, remixes: [*fox]}",
        "shots: &all\n  - {id: fox, prompt: a fox, remixes: *all}",
    ],
)
def test_an_alias_to_itself_is_a_cycle(problems: Problems, text: str) -> None:
    [problem] = problems(text)
    assert "an alias in the remixes of 'fox' nests this shot in itself" in problem


def test_a_shot_that_aliases_repeat_is_reported(problems: Problems) -> None:
    [problem] = problems("""
shots:
  - {id: fox, prompt: a fox, remixes: &more [{id: night, prompt: at night}]}
  - {id: owl, prompt: an owl, remixes: *more}
""")
    assert problem.startswith("glade.yaml:3: an alias in the remixes of 'owl' repeats this shot")


def test_aliases_within_aliases_do_not_multiply(problems: Problems) -> None:
    levels = [
        f"  - &l{n} {{id: s{n}, prompt: abc, remixes: [*l{n - 1}, *l{n - 1}]}}\n"
        for n in range(1, 60)
    ]
    text = "shots:\n  - &l0 {id: s0, prompt: abc}\n" + "".join(levels)
    assert any("repeats this shot" in problem for problem in problems(text))


def test_a_shot_is_nested_in_its_parent_or_names_it(problems: Problems) -> None:
    [problem] = problems(
        "shots: [{id: a, prompt: a fox, remixes: [{id: b, prompt: night, parent: a}]}]"
    )
    assert "is in the remixes of 'a' and names a parent too" in problem


def test_a_model_that_makes_no_remixes_has_none(tmp_path: Path) -> None:
    entry = tmp_path / "models.yaml"
    entry.write_text("""
- air: google:3@2
  name: Veo 3.1
  sizes: {720p: [1280x720]}
  default_size: 1280x720
  durations: {values: [4, 8], default: 8}
  prices: {certainty: published, rates: [{usd_per_second: 0.40}]}
""")
    path = tmp_path / "glade.yaml"
    path.write_text(
        "shots: [{id: a, prompt: a fox, model: 'google:3@2', remixes: [{id: b, prompt: night}]}]"
    )
    with pytest.raises(DatasetError) as caught:
        load_board(path, catalogue=Catalogue.from_yaml(entry))
    assert "'b' is a remix of 'a', but Veo 3.1 (google:3@2) cannot make remixes" in str(
        caught.value
    )


def test_a_shot_may_follow_by_another_model_and_mode(load: Load) -> None:
    board = load("""
defaults: {model: veo-3.1, size: 1280x720, duration: 8, audio: false, seed: 4}
shots:
  - id: fox
    prompt: a fox
    remixes:
      - {id: after, prompt: it runs away, duration: 6, audio: true}
      - id: night
        prompt: at night
        model: seedance-2.5
        remixes:
          - {id: rain, prompt: in rain, mode: extend, settings: {audio: false}}
          - {id: calm, prompt: the rain ends, model: sora-2-pro, mode: continue}
""")
    followed = {
        shot.id: (shot.spec.model, shot.spec.mode, shot.spec.duration_seconds)
        for shot in board.shots
    }
    assert followed == {
        "fox": ("google:3@2", None, 8.0),
        "after": ("google:3@2", "continue", 6.0),
        "night": ("bytedance:seedance@2.5", "edit", None),
        "rain": ("bytedance:seedance@2.5", "extend", None),
        "calm": ("openai:3@2", "continue", 4.0),
    }
    after, rain = board.shot("after").spec, board.shot("rain").spec
    assert (after.audio, after.seed, after.size, rain.audio) == (True, None, None, False)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("mode: edit", "column 'mode': 'b' is a remix of 'a', but Veo 3.1 (google:3@2) cannot"),
        ("mode: redo", "column 'mode': 'redo' is not a mode; allowed: remix, edit, extend"),
        ("mode: extend, duration: 8", "column 'duration': duration is 8; allowed: 7 with inputs"),
        ("mode: extend, seed: 1", "column 'seed': seed is not allowed with inputs.video"),
        (
            "model: aleph-2.0, seed: 1",
            "column 'seed': Runway Aleph 2.0 (runway:aleph@2.0) takes no",
        ),
        ("model: wan-3.0, mode: edit, settings: {tempo: 1}", "column 'settings': Wan 3.0"),
    ],
)
def test_a_follow_up_that_its_model_cannot_make_is_a_problem(
    problems: Problems, fields: str, said: str
) -> None:
    [problem] = problems(
        "shots: [{id: a, prompt: a fox, model: veo-3.1, remixes: [{id: b, prompt: night, "
        + fields
        + "}]}]"
    )
    assert problem.removeprefix("glade.yaml:1: ").startswith(said)


def test_a_shot_whose_source_is_too_short_is_a_problem(problems: Problems) -> None:
    [problem] = problems("""
shots:
  - id: a
    prompt: a fox
    model: grok-imagine-1.5
    duration: 1
    remixes:
      - id: b
        prompt: night
        model: kling-3.0-omni-pro
        remixes: [{id: c, prompt: rain, model: aleph-2.0}]
""")
    assert problem.startswith(
        "glade.yaml:11: 'c' is a remix of 'b': the clip's video is 1 s long; allowed: 2 to 30"
    )


def test_a_shot_that_starts_from_its_prompt_has_no_mode(problems: Problems) -> None:
    [problem] = problems("shots: [{id: a, prompt: a fox, mode: edit}]")
    assert problem.startswith("glade.yaml:1: column 'mode': only a remix has a mode")


def test_a_wrong_default_is_reported_once(problems: Problems) -> None:
    found = problems("""
defaults: {duration: 5, id: x}
shots: [{id: a, prompt: a fox}, {id: b, prompt: an owl}]
""")
    assert len(found) == 2
    assert found[0].startswith("glade.yaml:2: column 'id': there is no such column")
    assert found[1].startswith("glade.yaml:2: column 'duration': the duration is 5 seconds")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the board has no shots"),
        ("shots: []", "the board has no shots"),
        ("shots:", "the board has no shots"),
        ("[]", "a mapping is expected"),
        ("shots: {a: b}", "a list of shots is expected under 'shots'"),
        ("shots: [3]", "'3' is not a shot"),
        ("shots: [{id: a, prompt: abc, remixes: 3}]", "expected under 'remixes'"),
        ("shots: [{prompt: a fox}]", "the id is missing"),
        ("shots: [{id: a}]", "the prompt is missing"),
        ('shots: [{id: a, prompt: "\\u200b\\u200b\\u200b"}]', "0 of them visible"),
        ("shots: [{id: a, prompt: abc, recipes: [night]}]", "there is no such column"),
        ("board: a b\nshots: [{id: a, prompt: abc}]", "cannot be a board's name"),
        ("shots: [", "this is not YAML"),
        ("shots: [{id: a, prompt: !include fox.txt}]", "the tag '!include' is not allowed"),
        ("defaults: 3\nshots: [{id: a, prompt: abc}]", "a mapping of defaults is expected"),
    ],
)
def test_what_is_not_a_board_is_reported(problems: Problems, text: str, said: str) -> None:
    assert any(said in problem for problem in problems(text))


def test_a_file_that_cannot_name_a_board_says_how_to_name_it(tmp_path: Path) -> None:
    path = tmp_path / "my board.yaml"
    path.write_text("shots: [{id: fox, prompt: a fox}]")
    with pytest.raises(DatasetError, match="or set 'board: …' at the top"):
        load_board(path, catalogue=Catalogue.builtin())


@pytest.mark.parametrize("name", ["glade.csv", "nothing.yaml"])
def test_a_file_that_is_missing_or_not_yaml_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "glade.csv").write_text("id,prompt\n")
    with pytest.raises(DatasetError, match=r"extension|cannot be read"):
        load_board(tmp_path / name, catalogue=Catalogue.builtin())


def test_the_example_board_is_a_family_of_three_levels() -> None:
    board = load_board(
        Path(__file__).parents[2] / "examples" / "boards" / "mangrove.yaml",
        catalogue=Catalogue.builtin(),
    )
    assert family(board) == [
        ("monsoon", None, 0),
        ("dawn", "monsoon", 1),
        ("storm", "monsoon", 1),
        ("dawn_departure", "dawn", 2),
        ("dawn_close_up", "dawn", 2),
    ]
