"""The fault plan: how the sandbox misbehaves, when, and how often.

A plan (`plan.FaultPlan`) is data: modes that apply to the whole sandbox, and an ordered list of
rules. A rule is a fault and the events that it strikes::

    known_uuids: refused_while_running
    rules:
    - {fault: lose_answer, nth: [1, 3]}
    - {fault: status, status: 503, event: poll, times: 4}
    - {fault: fail, error: safety, prompt_contains: volcano}

At each event (a POST, a query for a task, a generation, a webhook, a download, an upload) the rules
are tried in order. A rule whose filters match counts the event. If the event is one of its
occurrences, the rule strikes, and its effect is added to those of earlier rules. A fault that
decides the event (a lost answer, a failed generation) is the last to strike; later rules still
count the event.

Faults are declared in `request_faults` and `result_faults`, counted by `active.ActiveFaults`, and
applied by `answers`, `downloads` and `outcomes`.
"""

from sora_dagster.sandbox.faults.plan import FaultPlan, FaultPlanError

__all__ = ["FaultPlan", "FaultPlanError"]
