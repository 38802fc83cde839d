"""Warnings about clips whose model was retired."""

from __future__ import annotations

from collections.abc import Iterable

from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.counts import clips_and_remixes
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.prompts.recipes import remix_spec
from sora_dagster.runware.alternatives import Needs, alternatives, needs_of, retired_text
from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.runware.requests import VideoInference


class RetiredModelWarning(UserWarning):
    """Definitions use a model that Runware retired."""


def retired_model_warnings(
    specs: Iterable[ClipSpec], catalogue: Catalogue, *, noun: str = "clip"
) -> list[str]:
    """A sentence for each retired model that clips use.

    It names the date, and up to three live models that can do what these clips ask.

    Arguments:
        specs: the clips.
        catalogue: the models that may be used.
        noun: what they are called. Default: clip.
    """
    needs: dict[str, list[Needs]] = {}
    retired: dict[str, VideoModel] = {}
    for spec in specs:
        entry = catalogue.find(spec.model)
        if entry is not None and entry.retired is not None:
            retired[entry.air] = entry
            needs.setdefault(entry.air, []).append(_needs_of(spec, entry))
    warnings = []
    for air, entry in retired.items():
        remixes = sum(need.mode is not None for need in needs[air])
        listed = clips_and_remixes(len(needs[air]) - remixes, remixes, noun)
        used_by = f"{listed} {'uses' if len(needs[air]) == 1 else 'use'} it"
        warnings.append(retired_text(entry, used_by, alternatives(needs[air], catalogue)))
    return warnings


def dataset_warnings(prompts: PromptDataset, catalogue: Catalogue) -> list[str]:
    """A sentence for each retired model that a dataset uses for clips or remixes.

    Arguments:
        prompts: the dataset.
        catalogue: the models that may be used.
    """
    remixes = (
        remix_spec(prompts.clip(clip_id), prompts.recipe(recipe), catalogue)
        for clip_id, recipe in prompts.remix_cells
    )
    return retired_model_warnings([*prompts.clips, *remixes], catalogue)


def default_model_warning(catalogue: Catalogue) -> str | None:
    """A sentence if the model of rows that name none was retired. None: it was not."""
    entry = catalogue.default
    if entry.retired is None:
        return None
    durations = entry.durations
    default = None if durations is None else durations.default
    needs = Needs(
        size=entry.default_size,
        resolution=None,
        seconds=None if isinstance(default, str) else default,
        sound=entry.makes_sound(),
    )
    return retired_text(
        entry, "it is the model of rows that name none", alternatives([needs], catalogue)
    )


def _needs_of(spec: ClipSpec, entry: VideoModel) -> Needs:
    draft = VideoInference.model_construct(None, **spec.request_fields(entry))
    return needs_of(draft, entry, mode=spec.mode)
