"""The model catalogue: the entries of the models that may be used."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from sora_dagster.runware.catalogue.contradictions import contradictions
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.entry_files import EntryFiles
from sora_dagster.runware.errors import UnknownModelError
from sora_dagster.user_files.problems import did_you_mean

DEFAULT_MODEL = "openai:3@2"

_HOW_TO_WRITE_AN_ENTRY = """\
To use another model, write an entry for it in a YAML file, and set SORA_MODELS to that file:

  - air: {air}
    name: any name
    sizes: {{720p: [1280x720], 1080p: [1920x1080]}}   # allowed sizes
    default_size: 1280x720
    durations: {{values: [4, 8], default: 4}}         # in seconds
    prices:
      certainty: published
      rates:
        - {{if: {{tier: 720p}}, usd_per_second: 0.20}}
        - {{if: {{tier: 1080p}}, usd_per_second: 0.40}}"""


class Catalogue:
    """The models that may be used, by their AIR id and by their short name.

    Arguments:
        entries: the models. A later entry replaces an earlier one with the same id.
        default: id or short name of the model of rows that name none. Default: Sora 2 Pro.

    Raises:
        UnknownModelError: if there is no entry for a `default` that is set.
        ValueError: if two models have the same short name, or an entry contradicts itself.

    Example:
        >>> Catalogue.builtin().get("openai:3@2").name
        'Sora 2 Pro'
    """

    def __init__(self, entries: Iterable[VideoModel], *, default: str | None = None) -> None:
        self._entries = {entry.air: entry for entry in entries}
        self._by_name: dict[str, VideoModel] = {}
        for entry in self._entries.values():
            if found := contradictions(entry):
                listed = "; ".join(map(str, found))
                raise ValueError(f"the entry of {entry.air} contradicts itself: {listed}")
            other = self._by_name.setdefault(entry.short_name, entry)
            if other is not entry:
                raise ValueError(
                    f"short_name {entry.short_name!r} of {entry.air} is also that of {other.air}; "
                    f"set another short_name"
                )
        self._default = DEFAULT_MODEL if default is None else self.get(default).air

    @classmethod
    @cache
    def builtin(cls) -> Catalogue:
        """The built-in models."""
        return cls(_builtin_entries())

    @property
    def entries(self) -> tuple[VideoModel, ...]:
        """All entries, the built-in ones first."""
        return tuple(self._entries.values())

    @property
    def default_model(self) -> str:
        """AIR id of the model of rows that name none."""
        return self._default

    @property
    def default(self) -> VideoModel:
        """The model of rows that name none.

        Raises:
            UnknownModelError: if the catalogue has no entry for it.
        """
        return self.get(self._default)

    def with_default(self, model: str) -> Catalogue:
        """A copy with another default model.

        Arguments:
            model: its AIR id or its short name.

        Raises:
            UnknownModelError: if there is no entry for it.
        """
        return Catalogue(self.entries, default=model)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `get` accepts: each model's short name and its id."""
        return tuple(name for entry in self.entries for name in (entry.short_name, entry.air))

    def get(self, model: str) -> VideoModel:
        """The entry of a model.

        Arguments:
            model: its AIR id or its short name.

        Raises:
            UnknownModelError: if there is none; the message shows how to write one.
        """
        entry = self._entries.get(model) or self._by_name.get(model)
        if entry is None:
            raise UnknownModelError(
                f"model {model!r} has no catalogue entry{did_you_mean(model, self.names)}; known "
                f"models: {', '.join(known.short_name for known in self.entries)}. "
                + _HOW_TO_WRITE_AN_ENTRY.format(air=model)
            )
        return entry

    def find(self, model: str) -> VideoModel | None:
        """The entry of a model by its AIR id or short name. None: there is none."""
        return self._entries.get(model) or self._by_name.get(model)

    def name_of(self, model: str) -> str:
        """Display name of a model; its id if it has no entry."""
        entry = self.find(model)
        return model if entry is None else entry.name

    def extended(self, entries: Iterable[VideoModel]) -> Catalogue:
        """A copy with more entries; an entry replaces an earlier one with the same id."""
        catalogue = Catalogue([*self._entries.values(), *entries])
        catalogue._default = self._default
        return catalogue

    @classmethod
    def from_yaml(cls, path: str | Path) -> Catalogue:
        """The built-in catalogue, extended by the entries of a file or a folder.

        Arguments:
            path: a YAML or JSON file with one entry or a list of entries (see `VideoModel`), or a
                folder of such files. An entry replaces a built-in one with the same id.

        Raises:
            ModelFileError: if anything is wrong; it lists all problems with their lines.
        """
        builtin = cls.builtin()
        return builtin.extended(EntryFiles(builtin.entries).read(Path(path)))


def _builtin_entries() -> tuple[VideoModel, ...]:
    folder = files("sora_dagster.runware.catalogue") / "models"
    entries = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            entries += EntryFiles().read_text(file.read_text("utf-8"), Path(file.name))
    # The default model first, since lists of models are shown in this order.
    return tuple(sorted(entries, key=lambda entry: (entry.air != DEFAULT_MODEL, entry.name)))
