"""A prompt dataset, with the names of its assets, partitions, jobs and sensors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypedDict

import dagster as dg

from sora_dagster.environment.values import default_catalogue, default_prompts_path
from sora_dagster.extras import MissingExtraError
from sora_dagster.generation.generator import parent_video
from sora_dagster.generation.library.clip_checks import ClipChecks
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.root_binding import bind_dataset
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, ClipSpec
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.prompts.prompt_source import PromptSource, SourceStorage
from sora_dagster.prompts.recipes import remix_spec
from sora_dagster.prompts.sources import NoPrompts, source_of
from sora_dagster.prompts.table_sources import AssetPrompts
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import StorageRoot
from sora_dagster.user_files.problems import FileProblem

CODE_VERSION = "1"
COLLECT_JOB = "collect_clips"
REQUEST_JOB = "request_clips"
SYNC_JOB = "sync_dataset"
REPORTS_JOB = "make_reports"
_ASSETS = (
    "prompts",
    "prompt_rows",
    "clip_requests",
    "clips",
    "remix_prompts",
    "remix_requests",
    "remixes",
    "generation_costs",
    "cost_report",
    "gallery",
)
_NAME = re.compile(r"[A-Za-z0-9_]+")
_KEY_PART = re.compile(r"[A-Za-z0-9_.-]+")
_NO_PROMPTS = (
    "no prompt dataset is set. Set SORA_PROMPTS to a JSONL, CSV, YAML or Parquet file, or to the "
    "URL of one in an object store. The example dataset is the default only with a local sandbox, "
    "since its clips cost money anywhere else"
)


Translation = Callable[[dg.AssetSpec, str], dg.AssetSpec]


class Labels(TypedDict):
    """Group, owners and tags of assets in Dagster's catalogue."""

    group_name: str
    owners: Sequence[str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ResourceKeys:
    """Keys of the resources that a dataset's definitions use.

    With other keys, two datasets of one code location can have two Runware accounts, two spending
    limits, or two buckets.

    Arguments:
        runware: key of the :class:`RunwareResource`.
        clip_storage: key of the :class:`ClipStorageResource`.
        clip_io_manager: key of the :class:`ClipIOManager`.

    Raises:
        ValueError: if a key is not a Python identifier, or two are equal.

    Example:
        >>> ResourceKeys.with_prefix("trailers").clip_storage
        'trailers_clip_storage'
    """

    runware: str = "runware"
    clip_storage: str = "clip_storage"
    clip_io_manager: str = "clip_io_manager"

    def __post_init__(self) -> None:
        keys = (self.runware, self.clip_storage, self.clip_io_manager)
        for key in keys:
            if not key.isidentifier():
                raise ValueError(
                    f"a resource key is {key!r}; use letters, digits and _ only, and no digit at "
                    f"the start"
                )
        if len(set(keys)) < len(keys):
            raise ValueError(f"the resource keys are {', '.join(keys)}; they must be different")

    @classmethod
    def with_prefix(cls, prefix: str) -> Self:
        """The default keys after a prefix and ``_``.

        Arguments:
            prefix: letters, digits and ``_``.
        """
        keys = cls()
        return cls(
            f"{prefix}_{keys.runware}",
            f"{prefix}_{keys.clip_storage}",
            f"{prefix}_{keys.clip_io_manager}",
        )


class RowMissingError(LookupError):
    """A clip has no row in the dataset: it was removed or renamed, or never existed."""


class RemixNotListedError(LookupError):
    """No row lists a remix, so it is not requested."""


@dataclass(frozen=True)
class VideoDataset:
    """A prompt dataset, with the names of its assets, partitions, jobs and sensors.

    The prompts are read when something runs, never when definitions load: a mistake in them fails
    that run or tick with a clear error, and everything paid for is still collected.

    Arguments:
        source: where the rows are: the path of a file (JSONL, CSV, TSV, YAML or Parquet), its URL
            in an object store, a function that returns rows, or a :class:`SqlPrompts`,
            :class:`FunctionPrompts`, :class:`AssetPrompts` or other :class:`PromptSource`.
            Default: that of the variable SORA_PROMPTS. None: nothing is set; definitions load, and
            what reads the prompts fails with a message that says so.
        name: name of the dataset in the storage root, where its outstanding clips, inbox, reports
            and gallery are kept apart from those of other datasets; letters, digits and ``_``.
            Unless it is ``default``, jobs, sensors, ops and partitions definitions start with it.
        key_prefix: put before the asset keys. Default: the name; nothing for ``default``.
        catalogue: the models that clips may use, and the model of rows that name none. Default:
            the models of this package and those of the variable SORA_MODELS, with the model of
            SORA_MODEL. For others, pass ``Catalogue.from_yaml(path)``, and the same path as
            `models_path` of :class:`RunwareResource`.
        group_name: asset group of all assets.
        owners: owners of all assets: email addresses, or ``team:`` and a name.
        tags: Dagster tags of all assets.
        max_usd_per_day: spending limit of this dataset's clips and remixes for a day (UTC), in
            USD. It is checked besides the limits of a run and of all runs in a day (see
            :class:`RunwareResource`). Default: no limit of its own.
        checks: checks of stored clips; see :func:`build_clip_checks`.
        delete_removed_partitions: whether the partition of a row that was removed is deleted in
            Dagster. Its clips and events are kept in any case. Default: no; it is kept, and marked
            as removed.
        resource_keys: keys of the resources that its definitions use. Default: ``runware``,
            ``clip_storage`` and ``clip_io_manager``.
        translation: changes the specification of each asset: key, group, owners, tags,
            description, kinds and metadata. It gets the specification and the name of the asset,
            such as ``clips``. The keys of a dataset must not change once clips are stored.
            Default: none.

    Raises:
        ValueError: if the name or the key prefix has characters that are not allowed, the limit is
            negative or no number, the source is of another kind, or a variable that is read has a
            wrong value.

    Example:
        >>> dataset = VideoDataset("prompts.yaml", name="trailers")
        >>> dataset.clips.to_user_string(), dataset.definition_name("collect_clips")
        ('trailers/clips', 'trailers_collect_clips')
    """

    source: str | Path | PromptSource | Callable[[], Any] | None = field(
        default_factory=default_prompts_path
    )
    name: str = DEFAULT_DATASET
    key_prefix: str | Sequence[str] | None = None
    catalogue: Catalogue = field(default_factory=default_catalogue)
    group_name: str = "generative_video"
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    max_usd_per_day: float | None = None
    checks: ClipChecks = field(default_factory=ClipChecks)
    delete_removed_partitions: bool = False
    resource_keys: ResourceKeys = field(default_factory=ResourceKeys)
    translation: Translation | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name of a dataset is {self.name!r}; use letters, digits and _ only"
            )
        for part in self._key_prefix:
            if not _KEY_PART.fullmatch(part):
                raise ValueError(
                    f"key_prefix is {self.key_prefix!r}; each part is letters, digits, _, - and . "
                    f"only. Pass several parts as a list"
                )
        if self.max_usd_per_day is not None and not 0 <= self.max_usd_per_day < float("inf"):
            raise ValueError(
                f"max_usd_per_day of dataset {self.name} is {self.max_usd_per_day}; use USD such "
                f"as 25 or 7.50, or None for no limit"
            )
        bases: dict[dg.AssetKey, str] = {}
        for base in _ASSETS if self.translation is not None else ():
            other = bases.setdefault(self.asset_key(base), base)
            if other != base:
                raise ValueError(
                    f"translation gives the assets {other} and {base} the same key "
                    f"{self.asset_key(base).to_user_string()}; use the name of the asset in the key"
                )
        # A wrong source is reported when definitions load.
        _ = self.prompt_source

    @property
    def _key_prefix(self) -> tuple[str, ...]:
        if self.key_prefix is None:
            return () if self.name == DEFAULT_DATASET else (self.name,)
        return (self.key_prefix,) if isinstance(self.key_prefix, str) else tuple(self.key_prefix)

    @property
    def day_limits_usd(self) -> Mapping[str, float]:
        """The dataset's own daily spending limit in USD, by its name; empty if it has none."""
        return {} if self.max_usd_per_day is None else {self.name: self.max_usd_per_day}

    @property
    def labels(self) -> Labels:
        """Group, owners and tags of all assets."""
        return Labels(group_name=self.group_name, owners=self.owners, tags=self.tags)

    def definition_name(self, base: str) -> str:
        """The name of a job, sensor, op or partitions definition of this dataset."""
        return base if self.name == DEFAULT_DATASET else f"{self.name}_{base}"

    def asset_key(self, base: str) -> dg.AssetKey:
        """The key of an asset of this dataset."""
        key = dg.AssetKey([*self._key_prefix, base])
        return key if self.translation is None else self._translated(dg.AssetSpec(key), base).key

    def translated(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """The specification of an asset of this dataset, as `translation` changes it.

        Arguments:
            spec: the specification, with its final key.
        """
        base = next((base for base in _ASSETS if self.asset_key(base) == spec.key), None)
        if self.translation is None or base is None:
            return spec
        original = spec.replace_attributes(key=dg.AssetKey([*self._key_prefix, base]))
        return self._translated(original, base)

    def _translated(self, spec: dg.AssetSpec, base: str) -> dg.AssetSpec:
        assert self.translation is not None
        return self.translation(spec, base)

    @property
    def prompts(self) -> dg.AssetKey:
        """The rows of the prompt dataset; one partition per clip."""
        return self.asset_key("prompts")

    @property
    def prompt_rows(self) -> dg.AssetKey:
        """The rows of an upstream asset, kept in the storage root; see :class:`AssetPrompts`."""
        return self.asset_key("prompt_rows")

    @property
    def clip_requests(self) -> dg.AssetKey:
        """The submissions of clips."""
        return self.asset_key("clip_requests")

    @property
    def clips(self) -> dg.AssetKey:
        """The stored clips."""
        return self.asset_key("clips")

    @property
    def remix_prompts(self) -> dg.AssetKey:
        """The remixes that rows list; one partition per clip and recipe."""
        return self.asset_key("remix_prompts")

    @property
    def remix_requests(self) -> dg.AssetKey:
        """The submissions of remixes."""
        return self.asset_key("remix_requests")

    @property
    def remixes(self) -> dg.AssetKey:
        """The stored remixes."""
        return self.asset_key("remixes")

    @property
    def clip_partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition for each clip id."""
        return dg.DynamicPartitionsDefinition(name=self.definition_name("clips"))

    @property
    def recipe_partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition for each remix recipe."""
        return dg.DynamicPartitionsDefinition(name=self.definition_name("recipes"))

    @property
    def remix_partitions(self) -> dg.MultiPartitionsDefinition:
        """The grid clip x recipe."""
        return dg.MultiPartitionsDefinition(
            {"clip": self.clip_partitions, "recipe": self.recipe_partitions}
        )

    @cached_property
    def prompt_source(self) -> PromptSource:
        """The source of the rows."""
        if self.source is None:
            return NoPrompts(_NO_PROMPTS)
        source = source_of(self.source)
        return source.of_dataset(self.name) if isinstance(source, AssetPrompts) else source

    def load_prompts(self, storage: SourceStorage | None = None) -> PromptDataset:
        """Read the rows.

        Arguments:
            storage: opens object stores and the storage root, for sources that are there. Default:
                object stores are opened with the credentials of the environment.

        Raises:
            DatasetError: naming all its problems, or that no source is set.
        """
        source = self.prompt_source
        try:
            return source.read(self.catalogue, storage)
        except DatasetError:
            raise
        # Collecting goes on without rows.
        except MissingExtraError as error:
            raise DatasetError(None, [FileProblem(None, None, None, str(error))]) from error
        # Of a user's own source.
        except Exception as error:
            reason = f"it cannot be read: {type(error).__name__}: {error}"
            raise DatasetError(
                source.label, [FileProblem(None, None, None, reason, "rows")]
            ) from error

    def clip_request(self, prompts: PromptDataset, clip_id: str) -> ClipRequest:
        """The request for a clip.

        Arguments:
            prompts: the rows.
            clip_id: id of the row.

        Raises:
            RowMissingError: if there is no such row.
        """
        try:
            spec = prompts.clip(clip_id)
        except LookupError:
            raise RowMissingError(
                f"clip {clip_id!r} is not in {prompts.label}: its row was removed or renamed. "
                f"What was generated is kept. Restore the row to generate it again"
            ) from None
        return ClipRequest(
            asset=self.clips.to_user_string(), clip=clip_id, spec=spec, dataset=self.name
        )

    def remix_spec(self, prompts: PromptDataset, clip_id: str, recipe: str) -> ClipSpec:
        """The spec of a remix.

        Arguments:
            prompts: the rows.
            clip_id: the clip to remix.
            recipe: name of the recipe.

        Raises:
            LookupError: if there is no such row or recipe.
        """
        return remix_spec(prompts.clip(clip_id), prompts.recipe(recipe), self.catalogue)

    def remix_request(
        self,
        prompts: PromptDataset,
        clip_id: str,
        recipe: str,
        parent: ClipManifest | None,
        root: StorageRoot,
    ) -> ClipRequest:
        """The request for a remix of a stored clip.

        Arguments:
            prompts: the rows.
            clip_id: the clip to remix.
            recipe: name of the recipe.
            parent: the newest stored take of the clip; None if there is none.
            root: the storage root of that take.

        Raises:
            RemixNotListedError: if the row does not list this recipe.
            LookupError: if the clip is not stored.
            ValueError: if the clip cannot be remixed, or failed a blocking check.
        """
        if recipe not in prompts.recipes_of(clip_id):
            raise RemixNotListedError(
                f"clip {clip_id!r} in {prompts.label} does not list the recipe {recipe!r}; add "
                f"it to the row's recipes to get this remix"
            )
        if parent is None:
            raise LookupError(
                f"clip {clip_id!r} is not stored yet, and a remix is made from its video; "
                f"materialize {self.clips.to_user_string()} first"
            )
        if reason := self.checks.reason_to_block(parent, self.catalogue, root):
            raise ValueError(f"clip {clip_id!r}: {reason}")
        return ClipRequest(
            asset=self.remixes.to_user_string(),
            clip=remix_partition(clip_id, recipe),
            spec=self.remix_spec(prompts, clip_id, recipe),
            recipe=recipe,
            parent=parent_video(parent),
            dataset=self.name,
        )

    def bind(self, ledger: Ledger) -> None:
        """Bind the dataset's name in a storage root to its assets.

        Must be called before clips are requested or collected, once the root itself is bound.

        Raises:
            DatasetNameError: if another dataset of this root has the name, or the same assets.
        """
        assets = [self.clips.to_user_string(), self.remixes.to_user_string()]
        bind_dataset(ledger, self.name, assets)

    def row_key(self, asset: str) -> dg.AssetKey:
        """The asset of rows that belongs to an asset of videos."""
        return self.prompts if asset == self.clips.to_user_string() else self.remix_prompts

    def request_key(self, asset: str) -> dg.AssetKey:
        """The asset of submissions that belongs to an asset of videos.

        Raises:
            LookupError: if the asset belongs to another dataset.
        """
        keys = {
            self.clips.to_user_string(): self.clip_requests,
            self.remixes.to_user_string(): self.remix_requests,
        }
        if asset not in keys:
            raise LookupError(
                f"asset {asset!r} does not belong to dataset {self.name!r}, which has "
                f"{', '.join(keys)}"
            )
        return keys[asset]


def asset_key_of(asset: str) -> dg.AssetKey:
    """The asset key for an asset's name in the storage root."""
    return dg.AssetKey(asset.split("/"))


def remix_partition(clip_id: str, recipe: str) -> str:
    """Partition key of a cell of the grid clip x recipe, as Dagster spells it."""
    return f"{clip_id}|{recipe}"


def split_remix_partition(partition_key: str) -> tuple[str, str]:
    """Clip id and recipe name of a cell of the grid."""
    clip_id, _, recipe = partition_key.partition("|")
    return clip_id, recipe


@contextmanager
def without_beta_warnings() -> Iterator[None]:
    """Suppress Dagster's warnings about beta and preview features that are used on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        warnings.simplefilter("ignore", category=dg.PreviewWarning)
        yield
