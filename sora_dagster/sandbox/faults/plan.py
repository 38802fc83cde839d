"""The fault plan as a whole, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sora_dagster.sandbox.faults.request_faults import RequestFault
from sora_dagster.sandbox.faults.result_faults import ResultFault

KnownUuids = Literal["refused_always", "refused_while_running", "charged_again"]
UnknownPolls = Literal["error", "silent", "silent_running"]
AnyFault = Annotated[RequestFault | ResultFault, Field(discriminator="fault")]

FAULT_NAMES: tuple[str, ...] = tuple(
    get_args(fault.model_fields["fault"].annotation)[0] for fault in get_args(get_args(AnyFault)[0])
)


class FaultPlan(BaseModel):
    """How the sandbox misbehaves; an empty plan changes nothing.

    Arguments:
        known_uuids: what happens to a submission whose UUID was accepted before. `refused_always`;
            `refused_while_running` accepts and charges it again after the earlier task has ended;
            `charged_again` always does. A task that is accepted again is a new run under the same
            UUID, which polls report from then on instead of the earlier one.
        unknown_polls: how a poll of an unknown task is answered: with an error, with no row
            (`silent`), or with no row for unknown and running tasks alike (`silent_running`).
            Default: as the sandbox's settings say.
        failed_are_charged: whether a failed generation is charged; if not, its share is refunded.
        clock_shift_seconds: error of the times that the sandbox reports over HTTP: the headers
            `Date` and `Last-Modified`, and the times in its ledger.
        rules: the faults, in the order in which they are tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    known_uuids: KnownUuids = "refused_always"
    unknown_polls: UnknownPolls | None = None
    failed_are_charged: bool = True
    clock_shift_seconds: float = Field(default=0.0, allow_inf_nan=False)
    rules: tuple[AnyFault, ...] = ()


class FaultPlanError(ValueError):
    """A fault plan is invalid.

    Arguments:
        problems: what is wrong, one sentence for each place.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("the fault plan is invalid:\n" + "\n".join(f"- {it}" for it in problems))
        self.problems = problems


def read_fault_plan(value: object) -> FaultPlan:
    """A plan from parsed JSON or YAML; None is an empty plan.

    Raises:
        FaultPlanError: the plan is invalid; it names each problem.
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
        FaultPlanError: the file cannot be read, or the plan is invalid.
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
        # Behind the index comes the fault's name, which is not a field.
        del location[2]
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = item.get("ctx", {}).get("tag")
        what = "fault is missing" if given is None else f"there is no fault {given!r}"
        return f"{place}: {what}; allowed: {', '.join(FAULT_NAMES)}"
    text = item["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    given = item["input"]
    if item["type"] != "missing" and isinstance(given, str | int | float):
        text += f" (it is {given!r})"
    return f"{place}: {text}" if place else text
