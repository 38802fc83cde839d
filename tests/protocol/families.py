"""The two families of tiny models that the tests of the protocol run with, and who runs what.

A tiny model makes one second of a stamp-sized picture: rendered, fetched and decoded in
milliseconds. Sora's family has the form of the seed's model; the live family that of the models
that Runware serves today.

Rows whose outcome can depend on the family run with both. Each other row runs with one of them,
such that the live family sees each kind of fault. ``PROTOCOL_FAMILIES=both`` in the environment
runs every row with both.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sora_dagster.prompts.clips import ClipRequest, ParentVideo
from sora_dagster.prompts.recipes import Recipe, remix_spec
from sora_dagster.runware.catalogue import Catalogue, FrameSize, RemixMode, VideoModel
from sora_dagster.runware.catalogue.numbers import Durations, NumberRule
from sora_dagster.runware.catalogue.parts import (
    AudioSwitch,
    InputLimits,
    RemixWay,
    Rule,
    Setting,
)
from sora_dagster.runware.catalogue.prices import Prices, Rate

PRICE_USD = 0.3
RUNS_ALL_WITH_BOTH = os.environ.get("PROTOCOL_FAMILIES") == "both"
_SIZE = FrameSize(160, 90)

_Row = TypeVar("_Row")

TINY = VideoModel(
    air="tests:tiny@1",
    name="tiny",
    sizes={"tiny": (_SIZE,)},
    default_size=_SIZE,
    durations=Durations(values=(1,), default=1),
    inputs={"frameImages": InputLimits(), "videoId": InputLimits()},
    rules=(Rule(exactly_one_of=("inputs.videoId", "inputs.frameImages", "size")),),
    remix={"remix": RemixWay(input="videoId", result_length="parent")},
    prices=Prices(certainty="published", rates=(Rate(usd_per_second=PRICE_USD),)),
)
TINY_LIVE = VideoModel(
    air="tests:live@1",
    name="live",
    sizes={"tiny": (_SIZE,)},
    default_size=_SIZE,
    durations=Durations(min=1, max=3, auto=True, default=1),
    seed=NumberRule(min=0, max=2**31 - 1),
    audio=AudioSwitch(setting="audio", default=False),
    inputs={
        "frameImages": InputLimits(max=2, positions=("first", "last")),
        "video": InputLimits(),
    },
    settings={
        "audio": Setting(type="boolean", default=False),
        "operation": Setting(type="text", values=("edit", "extend")),
    },
    rules=(
        Rule(exactly_one_of=("inputs.video", "inputs.frameImages", "size")),
        Rule(if_={"inputs.video": ("given",)}, forbid=("seed",), require=("settings.operation",)),
        Rule(if_={"inputs.video": ("missing",)}, forbid=("settings.operation",)),
        Rule(if_={"settings.operation": ("edit",)}, allow={"duration": ("auto",)}),
    ),
    remix={
        "edit": RemixWay(
            input="video",
            duration="auto",
            settings={"operation": "edit"},
            result_length="parent",
        ),
        "extend": RemixWay(input="video", duration="default", settings={"operation": "extend"}),
    },
    # With one second of an input video, a second costs as much as without.
    prices=Prices(
        certainty="published",
        rates=(
            Rate(if_={"audio": (True,)}, usd_per_second=2 * PRICE_USD),
            Rate(if_={"inputs.video": ("given",)}, usd_per_second=PRICE_USD - 0.1),
            Rate(usd_per_second=PRICE_USD),
        ),
        input_video_second_usd=0.1,
    ),
)
CATALOGUE = Catalogue.builtin().extended([TINY, TINY_LIVE])


@dataclass(frozen=True, eq=False)
class Family:
    """A family of models.

    Arguments:
        name: its name.
        model: its tiny model.
        mode: how it makes a remix by default.
    """

    name: str
    model: VideoModel
    mode: RemixMode

    def __str__(self) -> str:
        return self.name

    def clip(self, request: ClipRequest) -> ClipRequest:
        """A requested clip, made by this family's model."""
        spec = request.spec.model_copy(update={"model": self.model.air})
        if self is LIVE and request.parent is None and spec.seed is None:
            spec = spec.model_copy(update={"seed": 7, "duration_seconds": 1.0})
        return request.model_copy(update={"spec": spec})

    def remix(
        self, request: ClipRequest, parent: ParentVideo, *, mode: RemixMode | None = None
    ) -> ClipRequest:
        """A remix by this family's model, with the id and prompt of a requested clip.

        Arguments:
            request: the clip.
            parent: the video that it is made from instead.
            mode: how; default: the family's.
        """
        recipe = Recipe("remix", request.spec.prompt, model=self.model.air, mode=mode or self.mode)
        spec = remix_spec(self.clip(request).spec, recipe, CATALOGUE)
        spec = spec.model_copy(update={"number_results": request.spec.number_results})
        return request.model_copy(update={"spec": spec, "parent": parent})


SORA = Family("sora", TINY, "remix")
LIVE = Family("live", TINY_LIVE, "edit")
BOTH = (SORA, LIVE)


def with_families(
    rows: Sequence[_Row],
    *,
    fixed: Callable[[_Row], Sequence[Family]],
    kinds: Callable[[_Row], Iterable[str]],
) -> list[tuple[_Row, Family]]:
    """Which row runs with which family.

    Arguments:
        rows: the rows.
        fixed: the families that a row must run with; none if any will do.
        kinds: the kinds of faults of a row.
    """
    chosen: list[tuple[_Row, Family]] = []
    counts: Counter[Family] = Counter()
    seen = {kind for row in rows if LIVE in fixed(row) for kind in kinds(row)}
    for row in rows:
        families = fixed(row)
        if not families and RUNS_ALL_WITH_BOTH:
            families = BOTH
        elif not families:
            is_new = not seen.issuperset(kinds(row))
            families = [LIVE if is_new or counts[LIVE] < counts[SORA] else SORA]
        if LIVE in families:
            seen.update(kinds(row))
        counts.update(families)
        chosen += [(row, family) for family in families]
    return chosen
