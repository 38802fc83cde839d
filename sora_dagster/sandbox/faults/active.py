"""The plan in force, how often each of its rules struck, and its HTTP routes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sora_dagster.sandbox.faults.plan import FaultPlan, FaultPlanError, read_fault_plan
from sora_dagster.sandbox.faults.rules import Event, Rule

_Fault = TypeVar("_Fault", bound=Rule)


@dataclass
class _Count:
    """How often a rule struck, and how often it matched by `Rule.count_key`."""

    struck: int = 0
    matched: Counter[Any] = field(default_factory=Counter)


class ActiveFaults:
    """Decides at each event which faults strike.

    Arguments:
        plan: the initial plan.
        clock: returns the Unix time in seconds.
    """

    def __init__(self, plan: FaultPlan | None = None, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.set(plan or FaultPlan())

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._plan

    def set(self, plan: FaultPlan) -> None:
        """Replace the plan and restart all counts. Earlier effects remain."""
        self._plan = plan
        self._set_at = self._clock()
        self._counts = [_Count() for _ in plan.rules]

    def strikes(self, family: type[_Fault], event: Event) -> list[_Fault]:
        """The faults that strike an event, in order; each call counts as an event.

        Arguments:
            family: the kind of faults that can be applied here.
            event: what happens.
        """
        striking: list[_Fault] = []
        age_seconds = self._clock() - self._set_at
        for rule, count in zip(self._plan.rules, self._counts, strict=True):
            if not isinstance(rule, family) or not rule.matches(event):
                continue
            key = rule.count_key(event)
            count.matched[key] += 1
            is_late = rule.for_seconds is not None and age_seconds >= rule.for_seconds
            is_decided = bool(striking) and striking[-1].is_final
            if not is_late and not is_decided and rule.strikes(count.matched[key]):
                count.struck += 1
                striking.append(rule)
        return striking

    def to_json(self) -> dict[str, Any]:
        """The plan and the counts of its rules, as HTTP reports them."""
        return {
            "plan": self._plan.model_dump(mode="json", exclude_defaults=True),
            "rules": [
                {"fault": rule.fault, "matched": count.matched.total(), "struck": count.struck}
                for rule, count in zip(self._plan.rules, self._counts, strict=True)
            ],
        }

    def routes(self) -> list[Route]:
        """GET, PUT and DELETE of ``/sandbox/faults``.

        Each is answered with the plan in force and the counts of its rules. An invalid plan is
        answered with 400 and all its problems, and the earlier plan remains in force.
        """
        return [Route("/sandbox/faults", self._serve, methods=["GET", "PUT", "DELETE"])]

    async def _serve(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.set(FaultPlan())
        elif request.method == "PUT":
            try:
                value = json.loads(await request.body())
                if value is None:
                    raise ValueError("it is null")
            except (ValueError, RecursionError) as error:
                problem = f"the body must be a plan in JSON: {error}"
                return JSONResponse({"problems": [problem]}, status_code=400)
            try:
                self.set(read_fault_plan(value))
            except FaultPlanError as error:
                return JSONResponse({"problems": list(error.problems)}, status_code=400)
        return JSONResponse(self.to_json())
