"""From the recipes of a dataset to checked recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from sora_dagster.prompts.cells import RowCells, json_value
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.files import RecipeEntry, Row
from sora_dagster.prompts.ids import check_recipe_name
from sora_dagster.prompts.recipes import (
    Recipe,
    RemixModeError,
    planned_remix_problems,
    remix_mode,
    remix_spec,
    source_problem,
)
from sora_dagster.prompts.row_settings import read_settings
from sora_dagster.runware.catalogue import Catalogue, RemixMode, VideoModel
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList, did_you_mean

_FIELDS = ("prompt", "model", "mode", "settings", "duration", "audio")


@dataclass(frozen=True)
class ReadRecipe:
    """A recipe of a file.

    Arguments:
        line: its line.
        recipe: the recipe. None: it has problems, which are reported.
        entry: the catalogue entry of its own model. None: it has the clip's.
    """

    line: int
    recipe: Recipe | None
    entry: VideoModel | None = None

    def remix_problem(
        self, parent: VideoModel, seconds: float | None, catalogue: Catalogue
    ) -> str | None:
        """Why a clip cannot have this remix. None: it can, or the recipe itself has problems.

        Arguments:
            parent: the model of the clip.
            seconds: length of the clip in seconds. None: unknown.
            catalogue: the models that may be used.
        """
        if self.recipe is None:
            return None
        entry = self.entry or parent
        try:
            mode = remix_mode(self.recipe.mode, entry, parent, catalogue)
        except RemixModeError as error:
            return str(error)
        problem = source_problem(mode, entry, seconds)
        if problem is None and seconds is not None and self.recipe.duration_seconds is None:
            spec = remix_spec(_clip_of(parent), self.recipe, catalogue)
            found = planned_remix_problems(spec, entry, size=None, seconds=seconds)
            problem = next((one for one in found if one.field == "duration"), None)
        return None if problem is None else problem.message


def read_recipes(
    entries: Sequence[RecipeEntry], catalogue: Catalogue, problems: ProblemList
) -> dict[str, ReadRecipe]:
    """The recipes of a file by name; their problems are reported."""
    recipes: dict[str, ReadRecipe] = {}
    for entry in entries:
        try:
            check_recipe_name(entry.name)
        except ValueError as error:
            problems.add(str(error), line=entry.line, value=entry.name)
        recipes[entry.name] = _read(entry, catalogue, problems)
    return recipes


def _read(entry: RecipeEntry, catalogue: Catalogue, problems: ProblemList) -> ReadRecipe:
    problems_before = len(problems)
    for name, cell in entry.cells.items():
        if name not in _FIELDS:
            problems.add(
                f"recipe {entry.name!r} has no such field{did_you_mean(name, _FIELDS)}; allowed: "
                f"{', '.join(_FIELDS)}",
                line=cell.line,
                column=name,
                value=name,
            )
    cells = RowCells(Row(entry.line, entry.cells), problems)
    cells.refuse_control_characters()
    if cells.is_absent("prompt"):
        cells.report(None, f"recipe {entry.name!r} has no prompt; add one")
    prompt = cells.text("prompt") or ""
    model = _model(cells, catalogue)
    mode = _mode(cells, model, catalogue)
    settings = (
        {name: json_value(cell) for name, cell in cells.mapping("settings").items()}
        if model is None
        else read_settings(cells, model, catalogue)
    )
    duration = cells.seconds("duration", allowed="a number of seconds, or auto")
    audio = cells.boolean("audio")
    if len(problems) > problems_before:
        return ReadRecipe(entry.line, None, model)
    recipe = Recipe(
        entry.name,
        prompt,
        model=None if model is None else model.air,
        mode=mode,
        settings=settings,
        duration_seconds=duration,
        audio=audio,
    )
    return ReadRecipe(entry.line, recipe, model)


def _model(cells: RowCells, catalogue: Catalogue) -> VideoModel | None:
    if (given := cells.text("model")) is None:
        return None
    if (entry := catalogue.find(given)) is None:
        cells.report(
            "model",
            f"{shown(given)} is not in the catalogue{did_you_mean(given, catalogue.names)}; "
            f"allowed: {', '.join(catalogue.names)}, and the models of the file that SORA_MODELS "
            f"names",
        )
    return entry


def _mode(cells: RowCells, model: VideoModel | None, catalogue: Catalogue) -> RemixMode | None:
    modes = get_args(RemixMode)
    given = cells.word("mode", modes)
    mode: RemixMode | None = next((mode for mode in modes if mode == given), None)
    if given is not None and mode is None:
        cells.report("mode", f"{shown(given)} is not a mode; allowed: {', '.join(modes)}")
    elif model is not None:
        try:
            remix_mode(mode, model, None, catalogue)
        except RemixModeError as error:
            cells.report("mode" if mode is not None else "model", str(error))
    return mode


def check_recipes(
    recipes: Mapping[str, ReadRecipe],
    parents_of_recipe: Mapping[str, Mapping[str, VideoModel]],
    catalogue: Catalogue,
    problems: ProblemList,
) -> None:
    """Check each recipe against the rules of the models that make its remixes.

    Arguments:
        recipes: the recipes.
        parents_of_recipe: for each recipe, the models of the clips that use it, by AIR id. A recipe
            that no clip uses is checked with the default model.
        catalogue: the models that may be used.
        problems: where problems are reported, one for each recipe at most.
    """
    default = catalogue.find(catalogue.default_model)
    for name, read in recipes.items():
        if read.recipe is None:
            continue
        parents = list(parents_of_recipe.get(name, {}).values())
        if not parents and default is not None:
            parents = [default]
        for parent in parents:
            if (message := _broken_rule(read.recipe, parent, catalogue)) is not None:
                message = f"recipe {name!r}: {message}"
                problems.add(message, line=read.line, value=read.recipe.prompt)
                break


def _clip_of(model: VideoModel) -> ClipSpec:
    return ClipSpec(clip_id="clip", prompt="", model=model.air)


def _broken_rule(recipe: Recipe, parent: VideoModel, catalogue: Catalogue) -> str | None:
    """The first rule that a remix of a clip of a model breaks."""
    try:
        spec = remix_spec(_clip_of(parent), recipe, catalogue)
    except RemixModeError:
        # Reported at the rows that list the recipe.
        return None
    entry = catalogue.get(spec.model)
    found = planned_remix_problems(spec, entry, size=parent.default_size)
    if not found:
        return None
    problem = found[0]
    is_setting = problem.field.startswith(("settings.", "providerSettings."))
    return problem.message if not is_setting or problem.field in problem.message else str(problem)
