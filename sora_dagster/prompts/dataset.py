"""Prompt datasets: files with a row for each clip, and recipes for remixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sora_dagster.input_files.problems import ProblemList, did_you_mean
from sora_dagster.input_files.text import decode_text, unreadable
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.csv_files import read_csv, read_tsv
from sora_dagster.prompts.files import (
    DatasetError,
    DatasetTable,
    RecipeEntry,
    read_jsonl,
)
from sora_dagster.prompts.images import DatasetImages
from sora_dagster.prompts.parquet_files import read_parquet
from sora_dagster.prompts.recipe_reader import check_recipes, read_recipes
from sora_dagster.prompts.recipes import Recipe
from sora_dagster.prompts.rows import RowReader
from sora_dagster.prompts.yaml_files import read_yaml, read_yaml_recipes
from sora_dagster.runware.catalogue import Catalogue

__all__ = ["DatasetError", "PromptDataset", "Recipe", "load_dataset"]

_TEXT_READERS = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}
_EXTENSIONS = (*_TEXT_READERS, ".parquet")
# What to do about files of other formats.
_OTHER_EXTENSIONS = {
    ".json": "; write one JSON object a line, in a .jsonl file",
    ".pq": "; if it is Parquet, rename it to .parquet",
    ".tab": "; if its cells are separated by tabs, rename it to .tsv",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "; save the spreadsheet as CSV in UTF-8"),
    **dict.fromkeys((".gz", ".zip", ".zst", ".bz2"), "; decompress it first"),
}


@dataclass(frozen=True)
class PromptDataset:
    """The clips of a dataset file, and its recipes.

    Arguments:
        path: the file.
        clips: one for each row, in the order of the file, with all defaults filled in.
        recipes: the recipes for remixes, in the order of their file. Default: none.
    """

    path: Path
    clips: tuple[ClipSpec, ...]
    recipes: tuple[Recipe, ...] = ()

    @cached_property
    def _clip_by_id(self) -> Mapping[str, ClipSpec]:
        return {clip.clip_id: clip for clip in self.clips}

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        """The ids of all clips, in the order of the file."""
        return tuple(clip.clip_id for clip in self.clips)

    @cached_property
    def remix_cells(self) -> tuple[tuple[str, str], ...]:
        """Each requested remix as (clip id, recipe name), in the order of the file."""
        return tuple((clip.clip_id, recipe) for clip in self.clips for recipe in clip.recipes)

    def recipes_of(self, clip_id: str) -> tuple[str, ...]:
        """Names of the requested remixes of a clip; empty if there is no such clip."""
        clip = self._clip_by_id.get(clip_id)
        return () if clip is None else clip.recipes

    def clip(self, clip_id: str) -> ClipSpec:
        """The clip with an id.

        Raises:
            LookupError: if the dataset has no such clip.
        """
        try:
            return self._clip_by_id[clip_id]
        except KeyError:
            raise LookupError(
                f"{self.path} has no clip {clip_id!r}" + did_you_mean(clip_id, self.clip_ids)
            ) from None

    def recipe(self, name: str) -> Recipe:
        """The recipe with a name.

        Raises:
            LookupError: if the dataset has no such recipe.
        """
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise LookupError(
            f"{self.path} has no recipe {name!r}"
            + did_you_mean(name, [recipe.name for recipe in self.recipes])
        )


def load_dataset(path: str | Path, *, catalogue: Catalogue) -> PromptDataset:
    """Read a prompt dataset in JSON Lines, CSV, TSV, YAML or Parquet, by the file's extension.

    Each row is a clip, with the columns `id` and `prompt`, and optionally those of
    `sora_dagster.prompts.files.COLUMNS`. The model is its short name or its AIR id. Recipes, tags
    and reference images are lists, in CSV and TSV separated by ``;``. Settings are a mapping, in
    CSV and TSV JSON or ``name=value; name=value``. An image may be the path of a file relative to
    the dataset's folder. Size and duration are filled in with the model's defaults where its rules
    allow it, so each clip says what is paid for.

    Recipes are inside a YAML dataset (``{clips: […], recipes: {name: prompt}}``), or in a YAML
    file beside the dataset: ``<its name>.recipes.yaml``, else ``recipes.yaml``, each also as
    ``.yml``. A recipe is a prompt, or a mapping with `prompt` and optionally `model`, `mode`,
    `settings` and `duration`.

    Arguments:
        path: the dataset file.
        catalogue: the models that rows may name; its default is the model of rows that name none.

    Raises:
        DatasetError: if anything is wrong; it lists all problems of the file.

    Example:
        >>> dataset = load_dataset("examples/prompts.yaml", catalogue=Catalogue.builtin())
        >>> dataset.clip("mangrove-monsoon").duration_seconds
        8.0
    """
    path = Path(path)
    problems = ProblemList(path.name, "rows" if path.suffix.lower() == ".parquet" else "lines")
    table = _read_table(path, problems)
    recipes_file, recipe_problems = path, problems
    entries = table.recipes
    if entries is None:
        recipes_file = _recipes_beside(path)
        recipe_problems = ProblemList(recipes_file.name)
        entries = _read_recipes(recipes_file, recipe_problems)

    known = read_recipes(entries, catalogue, recipe_problems)
    reader = RowReader(
        catalogue=catalogue,
        images=DatasetImages(path.parent),
        recipes=known,
        recipes_place=f"'recipes' of {path.name}" if recipes_file == path else recipes_file.name,
        missing_columns=table.missing_columns,
        problems=problems,
    )
    clips = [clip for row in table.rows if (clip := reader.read(row)) is not None]
    check_recipes(known, reader.parents_of_recipe, catalogue, recipe_problems)
    if not table.rows and not problems:
        problems.add("the dataset has no clips; add a row with an id and a prompt", value=None)
    found = [*problems, *(recipe_problems if recipe_problems is not problems else ())]
    if found:
        raise DatasetError(path, found)
    recipes = tuple(read.recipe for read in known.values() if read.recipe is not None)
    return PromptDataset(path, tuple(clips), recipes)


def _read_table(path: Path, problems: ProblemList) -> DatasetTable:
    extension = path.suffix.lower()
    if extension != ".parquet" and extension not in _TEXT_READERS:
        problems.add(
            f"the extension {path.suffix!r} is unknown; allowed: {', '.join(_EXTENSIONS)}"
            + _OTHER_EXTENSIONS.get(extension, ""),
            value=path.suffix,
        )
        raise DatasetError(path, list(problems))
    try:
        with path.open("rb") as file:
            if extension == ".parquet":
                return read_parquet(file, problems)
            return _TEXT_READERS[extension](decode_text(file.read(), problems), problems)
    except OSError as error:
        problems.add(unreadable(path, error), value=str(path))
        raise DatasetError(path, list(problems)) from error


def _recipes_beside(dataset: Path) -> Path:
    """The recipes file of a dataset, or where it would be."""
    places = [
        dataset.with_name(f"{name}.{extension}")
        for name in (f"{dataset.stem}.recipes", "recipes")
        for extension in ("yaml", "yml")
    ]
    return next((place for place in places if place != dataset and place.is_file()), places[0])


def _read_recipes(path: Path, problems: ProblemList) -> Sequence[RecipeEntry]:
    if not path.is_file():
        return ()
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.add(unreadable(path, error), value=str(path))
        return ()
    return read_yaml_recipes(decode_text(data, problems), problems)
