"""The asset graph of one prompt dataset: names, partitions, and where the dataset is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import dagster as dg

from sora_dagster.generation.generator import parent_video
from sora_dagster.generation.library.clip_checks import ClipChecks
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.root_binding import bind_dataset
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, remix_spec
from sora_dagster.prompts.dataset import (
    DatasetError,
    DatasetProblem,
    PromptDataset,
    load_dataset,
)
from sora_dagster.runware.models import Catalogue
from sora_dagster.storage import StorageRoot

CODE_VERSION = "1"
_NO_DATASET = (
    "no prompt dataset is set. Set SORA_PROMPTS to a JSONL, CSV, YAML or Parquet file. The example "
    "dataset is the default only with a local sandbox, since its clips cost money anywhere else"
)


class Labels(TypedDict):
    """What assets are sorted by in Dagster's catalogue."""

    group_name: str
    owners: Sequence[str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class VideoGraph:
    """What the asset builders, jobs and sensors of one dataset have in common.

    The dataset is read when something runs, never when definitions load: a mistake in it fails
    that run or tick with a clear error, and everything paid for is still collected.

    Arguments:
        prompts_path: the dataset file (JSONL, CSV, YAML or Parquet). None: no dataset is set;
            definitions load, and what reads the dataset fails with a message that says so.
        catalogue: the models that clips may use.
        group_name: asset group of all assets.
        owners: owners of all assets, as Dagster has them: email addresses, or ``team:`` and a name.
        tags: Dagster's tags of all assets.
        checks: what stored clips are held to; see :func:`build_clip_checks`.
        name_prefix: put before the names of assets, partitions, jobs and sensors, so that one
            code location can hold several datasets; such as ``trailers_``.

    Example:
        >>> graph = VideoGraph("prompts.yaml", name_prefix="trailers_")
        >>> graph.clips.to_user_string()
        'trailers_clips'
    """

    prompts_path: str | Path | None
    catalogue: Catalogue = field(default_factory=Catalogue.builtin)
    group_name: str = "generative_video"
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    checks: ClipChecks = field(default_factory=ClipChecks)
    name_prefix: str = ""

    @property
    def dataset(self) -> str:
        """Name of the dataset in the storage root; ``default`` without a `name_prefix`.

        What is outstanding, the inbox, the claims, the gallery and the reports are kept under it,
        apart from those of other datasets in the same root.

        >>> VideoGraph("prompts.yaml", name_prefix="trailers_").dataset
        'trailers'
        """
        return self.name_prefix.rstrip("_") or DEFAULT_DATASET

    @property
    def labels(self) -> Labels:
        """What all assets have in common in Dagster's catalogue."""
        return Labels(group_name=self.group_name, owners=self.owners, tags=self.tags)

    def name(self, base: str) -> str:
        """The name of a part of the graph."""
        return f"{self.name_prefix}{base}"

    def _key(self, base: str) -> dg.AssetKey:
        return dg.AssetKey(self.name(base))

    @property
    def prompts(self) -> dg.AssetKey:
        """The dataset's rows; one partition a clip."""
        return self._key("prompts")

    @property
    def clip_requests(self) -> dg.AssetKey:
        """The submissions of clips."""
        return self._key("clip_requests")

    @property
    def clips(self) -> dg.AssetKey:
        """The stored clips."""
        return self._key("clips")

    @property
    def remix_prompts(self) -> dg.AssetKey:
        """The remixes that rows ask for; a cell of the grid clip x recipe each."""
        return self._key("remix_prompts")

    @property
    def remix_requests(self) -> dg.AssetKey:
        """The submissions of remixes."""
        return self._key("remix_requests")

    @property
    def remixes(self) -> dg.AssetKey:
        """The stored remixes."""
        return self._key("remixes")

    @property
    def clip_partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition for each clip id."""
        return dg.DynamicPartitionsDefinition(name=self.name("clips"))

    @property
    def recipe_partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition for each remix recipe."""
        return dg.DynamicPartitionsDefinition(name=self.name("recipes"))

    @property
    def remix_partitions(self) -> dg.MultiPartitionsDefinition:
        """The grid clip x recipe."""
        return dg.MultiPartitionsDefinition(
            {"clip": self.clip_partitions, "recipe": self.recipe_partitions}
        )

    def load_dataset(self) -> PromptDataset:
        """Read the dataset as it is now.

        Raises:
            DatasetError: naming all its problems, or that no dataset is set.
        """
        if self.prompts_path is None:
            raise DatasetError(None, [DatasetProblem(None, None, None, _NO_DATASET)])
        return load_dataset(self.prompts_path, catalogue=self.catalogue)

    def clip_request(self, dataset: PromptDataset, clip_id: str) -> ClipRequest:
        """What the dataset asks for under a clip id.

        Raises:
            LookupError: where the dataset has no such clip.
        """
        try:
            spec = dataset.clip(clip_id)
        except LookupError:
            raise LookupError(
                f"clip {clip_id!r} is not in {self.prompts_path}; it was removed or renamed. What "
                f"was generated stays; put the row back to generate it again"
            ) from None
        return ClipRequest(
            asset=self.clips.to_user_string(), clip=clip_id, spec=spec, dataset=self.dataset
        )

    def remix_request(
        self,
        dataset: PromptDataset,
        clip_id: str,
        recipe: str,
        parent: ClipManifest | None,
        root: StorageRoot,
    ) -> ClipRequest:
        """What the dataset asks for under a cell of the grid.

        Arguments:
            dataset: the dataset.
            clip_id: the clip that is remixed.
            recipe: name of the recipe.
            parent: the clip's newest stored take.
            root: the storage root that it is stored in.

        Raises:
            LookupError: where the dataset does not ask for this remix, or its clip is not stored.
            ValueError: where its clip cannot be remixed, or failed a blocking check.
        """
        if recipe not in dataset.recipes_of(clip_id):
            raise LookupError(
                f"{self.prompts_path} asks for no remix {recipe!r} of clip {clip_id!r}; add "
                f"{recipe!r} to the row's recipes to have it made"
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
            spec=remix_spec(dataset.clip(clip_id), prompt=dataset.recipe(recipe).prompt),
            recipe=recipe,
            parent=parent_video(parent),
            dataset=self.dataset,
        )

    def bind_dataset(self, ledger: Ledger) -> None:
        """Bind the dataset's name in a storage root to these assets.

        What requests or collects its clips calls this first, once the root itself is bound.

        Raises:
            DatasetNameError: if the name stands for other assets in this root.
        """
        assets = [self.clips.to_user_string(), self.remixes.to_user_string()]
        bind_dataset(ledger, self.dataset, assets)

    def row_key(self, asset: str) -> dg.AssetKey:
        """The asset of rows that belongs to an asset of videos."""
        return self.prompts if asset == self.clips.to_user_string() else self.remix_prompts

    def request_key(self, asset: str) -> dg.AssetKey:
        """The asset of submissions that belongs to an asset of videos.

        Raises:
            LookupError: where the asset is not of this graph.
        """
        keys = {
            self.clips.to_user_string(): self.clip_requests,
            self.remixes.to_user_string(): self.remix_requests,
        }
        if asset not in keys:
            raise LookupError(f"asset {asset!r} is none of this graph's: {', '.join(keys)}")
        return keys[asset]


def asset_key_of(asset: str) -> dg.AssetKey:
    """The key that an asset's name in the storage root stands for."""
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
    """Keep Dagster's warnings about features in beta away where one is used knowingly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        yield
