"""The fault plan as a whole, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sora_dagster.sandbox.faults.answer_faults import (
    EmptyData,
    Garbage,
    LoseAnswer,
    NoAnswer,
    RefuseBatch,
    Reset,
    Slow,
    Status,
)
from sora_dagster.sandbox.faults.result_faults import Fail, LateResult, NeverEnds, Nsfw, WrongCost
from sora_dagster.sandbox.faults.task_faults import (
    ArchivedRefusal,
    Forgotten,
    NotYetKnown,
    Refuse,
    Unknown,
)
from sora_dagster.sandbox.faults.transfer_faults import (
    DownloadCorrupt,
    DownloadGone,
    DownloadRedirected,
    DownloadSlow,
    DownloadTruncated,
    DownloadWrongLength,
    UploadAlone,
    UploadLate,
    UploadLost,
    UploadTruncated,
)
from sora_dagster.sandbox.faults.webhook_faults import (
    WebhookFailure,
    WebhookLate,
    WebhookLost,
    WebhookMalformed,
    WebhookOutOfOrder,
    WebhookRepeated,
)

KnownUuids = Literal["refused_always", "refused_while_running", "charged_again"]
UnknownPolls = Literal["error", "silent", "silent_running"]

AnyFault = Annotated[
    LoseAnswer
    | Reset
    | NoAnswer
    | Garbage
    | EmptyData
    | Status
    | Slow
    | RefuseBatch
    | Refuse
    | Unknown
    | NotYetKnown
    | Forgotten
    | ArchivedRefusal
    | Fail
    | NeverEnds
    | LateResult
    | Nsfw
    | WrongCost
    | WebhookLost
    | WebhookLate
    | WebhookRepeated
    | WebhookOutOfOrder
    | WebhookMalformed
    | WebhookFailure
    | DownloadGone
    | DownloadTruncated
    | DownloadWrongLength
    | DownloadCorrupt
    | DownloadSlow
    | DownloadRedirected
    | UploadLost
    | UploadLate
    | UploadAlone
    | UploadTruncated,
    Field(discriminator="fault"),
]

FAULT_NAMES: tuple[str, ...] = tuple(
    get_args(fault.model_fields["fault"].annotation)[0] for fault in get_args(get_args(AnyFault)[0])
)


class FaultPlan(BaseModel):
    """How the sandbox misbehaves; an empty plan changes nothing.

    Arguments:
        known_uuids: what becomes of a submission whose UUID was accepted before. `refused_always`;
            `refused_while_running` accepts and charges it again once the former task is over;
            `charged_again` always does. A task that is accepted again is a new run under the same
            UUID, which polls tell of from then on instead of the former one.
        unknown_polls: how a poll of an unknown task is answered: with an error, with no row
            (`silent`), or with no row for unknown and running tasks alike (`silent_running`); none
            for what the sandbox's settings say.
        failed_are_charged: whether a failed generation is paid for all the same; if not, its share
            is given back.
        clock_shift_seconds: by how much the times that the sandbox tells over HTTP are wrong: the
            headers `Date` and `Last-Modified`, and the times in its ledger.
        rules: the faults, in the order in which they are asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    known_uuids: KnownUuids = "refused_always"
    unknown_polls: UnknownPolls | None = None
    failed_are_charged: bool = True
    clock_shift_seconds: float = Field(default=0.0, allow_inf_nan=False)
    rules: tuple[AnyFault, ...] = ()


class FaultPlanError(ValueError):
    """A plan is wrong.

    Arguments:
        problems: what is wrong, one sentence for each place.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("the fault plan is wrong:\n" + "\n".join(f"- {it}" for it in problems))
        self.problems = problems


def read_fault_plan(value: object) -> FaultPlan:
    """A plan from parsed JSON or YAML; nothing at all is an empty plan.

    Raises:
        FaultPlanError: which names each problem.
    """
    if value is None:
        return FaultPlan()
    if not isinstance(value, Mapping):
        raise FaultPlanError((f"a plan is an object with rules, not {type(value).__name__}",))
    try:
        return FaultPlan.model_validate(value)
    except ValidationError as error:
        raise FaultPlanError(tuple(_problem(item) for item in error.errors())) from error


def load_fault_plan(path: Path) -> FaultPlan:
    """A plan from a YAML or JSON file.

    Raises:
        FaultPlanError: where the file cannot be read or is no right plan.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FaultPlanError((f"{path} cannot be read as YAML or JSON: {error}",)) from error
    return read_fault_plan(value)


def _problem(item: Mapping[str, Any]) -> str:
    """One problem, with its place: `rules[2].times: …`."""
    place = ""
    location = list(item["loc"])
    if len(location) > 2 and location[0] == "rules":
        # Behind the index comes the fault's name, which is no field.
        del location[2]
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = item.get("ctx", {}).get("tag")
        what = "fault is missing" if given is None else f"there is no fault {given!r}"
        return f"{place}: {what}; there are {', '.join(FAULT_NAMES)}"
    text = item["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    given = item["input"]
    if item["type"] != "missing" and isinstance(given, str | int | float):
        text += f" (it is {given!r})"
    return f"{place}: {text}" if place else text
