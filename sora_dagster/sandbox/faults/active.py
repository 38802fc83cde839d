"""The plan that is in force, and how often each of its rules struck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sora_dagster.sandbox.faults.events import Event
from sora_dagster.sandbox.faults.plan import FaultPlan
from sora_dagster.sandbox.faults.rules import Rule

_Fault = TypeVar("_Fault", bound=Rule)


@dataclass
class _Count:
    """How often a rule matched an event, and struck one.

    Arguments:
        struck: how often it struck.
        matched: how often it matched, by what its events are counted together with.
    """

    struck: int = 0
    matched: Counter[Any] = field(default_factory=Counter)


class ActiveFaults:
    """Tells at each event which faults strike.

    Arguments:
        plan: the plan at first.
        clock: tells the Unix time in seconds.
    """

    def __init__(self, plan: FaultPlan | None = None, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.set(plan or FaultPlan())

    @property
    def plan(self) -> FaultPlan:
        """The plan that is in force."""
        return self._plan

    def set(self, plan: FaultPlan) -> None:
        """Put another plan in force, and count from the beginning."""
        self._plan = plan
        self._set_at = self._clock()
        self._counts = [_Count() for _ in plan.rules]

    def clear(self) -> None:
        """Let no fault strike any more. What was struck before stays as it is."""
        self.set(FaultPlan())

    def strikes(self, family: type[_Fault], event: Event) -> list[_Fault]:
        """The faults that strike an event, in their order; each call counts as an event.

        Arguments:
            family: the kind of faults that can be played here.
            event: what happens.
        """
        striking: list[_Fault] = []
        age_seconds = self._clock() - self._set_at
        for rule, count in zip(self._plan.rules, self._counts, strict=True):
            if not isinstance(rule, family) or not rule.matches(event):
                continue
            key = rule.counted_with(event)
            count.matched[key] += 1
            is_late = rule.for_seconds is not None and age_seconds >= rule.for_seconds
            is_decided = bool(striking) and striking[-1].is_final
            if not is_late and not is_decided and rule.strikes(count.matched[key]):
                count.struck += 1
                striking.append(rule)
        return striking

    def to_json(self) -> dict[str, Any]:
        """The plan, and the count of each of its rules, as they are told over HTTP."""
        return {
            "plan": self._plan.model_dump(mode="json", exclude_defaults=True),
            "rules": [
                {"fault": rule.fault, "matched": count.matched.total(), "struck": count.struck}
                for rule, count in zip(self._plan.rules, self._counts, strict=True)
            ],
        }
