"""The fault plan: how the sandbox misbehaves, on which occasions, and how often.

A plan is data (`plan.FaultPlan`): modes that hold for the whole sandbox, and an ordered list of
rules. A rule is a fault together with the events that it strikes::

    known_uuids: refused_while_running
    rules:
    - {fault: lose_answer, nth: [1, 3]}
    - {fault: status, status: 503, event: poll, times: 4}
    - {fault: fail, error: safety, prompt_contains: volcano}

At each event (a POST, a look-up of a task, a generation, a webhook, a download, an upload) the
rules are asked in their order. A rule whose filters fit counts the event; if the event is one of
its occurrences it strikes, and what it does is added to what the rules before it did. A fault that
decides the event for good (an answer that is lost, a generation that fails) is the last to strike;
rules behind it count the event all the same.

`active.ActiveFaults` keeps the count. The other modules play the faults where the sandbox has its
seams: `answering` for POSTs, `downloads` for videos.
"""

from sora_dagster.sandbox.faults.plan import FaultPlan, FaultPlanError

__all__ = ["FaultPlan", "FaultPlanError"]
