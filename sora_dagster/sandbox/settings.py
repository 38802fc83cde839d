"""Settings of the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from sora_dagster.sandbox.faults.plan import FaultPlan, UnknownPolls, load_fault_plan


class SandboxSettings(BaseModel):
    """How a sandbox behaves.

    Arguments:
        host: address to listen at.
        port: port to listen at; 0 for a free one.
        api_key: the key that is accepted.
        extra_keys: further keys that are accepted, each with the UUID of the organization that it
            belongs to. Organizations know nothing of each other's tasks and videos.
        latency_seconds: from the acceptance of a task to its first result, at least (a rendering
            that takes longer is waited for).
        latency_step_seconds: further time to each next result of the same task.
        max_tasks_per_request: most tasks in one POST; a POST with more is refused whole.
        max_polls_per_request: most `getResponse` tasks in one POST; 1 refuses batched polls.
        unknown_polls: how a poll of a UUID that was never seen is answered: with an error, with
            no row at all, or with no row for it and for running tasks alike; a fault plan's own
            word goes first.
        reuse_rendered: give every video of a size, length and format the same bytes, so that a
            load test does not wait for renderings.
        render_cache_dir: where such reused videos are kept for other sandboxes, so that each kind
            is rendered once for all; only with `reuse_rendered`.
        webhook_timeout_seconds: how long a receiver may take to answer.
        webhook_attempts: how often a webhook is sent until it is answered with 2xx.
        webhook_first_delay_seconds: wait before the second attempt; it doubles from then on.
        balance_usd: what the account has at first.
        render_workers: how many videos are rendered at a time, a core each.
        data_dir: where rendered videos and the journal of accepted tasks are kept, so that a
            sandbox that is started there again knows them; a temporary folder, removed at the
            end, where none is given.
        faults: the fault plan at first.
        faults_path: a YAML or JSON file that holds it instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    api_key: SecretStr = SecretStr("sandbox-key")
    extra_keys: dict[str, str] = Field(default_factory=dict, repr=False)
    latency_seconds: float = Field(default=3.0, ge=0)
    latency_step_seconds: float = Field(default=1.0, ge=0)
    max_tasks_per_request: int = Field(default=100, ge=1)
    max_polls_per_request: int = Field(default=100, ge=1)
    unknown_polls: UnknownPolls = "error"
    reuse_rendered: bool = False
    render_cache_dir: Path | None = None
    webhook_timeout_seconds: float = Field(default=5.0, gt=0)
    webhook_attempts: int = Field(default=8, ge=1)
    webhook_first_delay_seconds: float = Field(default=0.25, ge=0)
    balance_usd: float = Field(default=1000.0, ge=0)
    render_workers: int = Field(default=1, ge=1)
    data_dir: Path | None = None
    faults: FaultPlan | None = None
    faults_path: Path | None = None

    @model_validator(mode="after")
    def _one_plan(self) -> Self:
        if self.faults is not None and self.faults_path is not None:
            raise ValueError("give faults or faults_path, not both")
        return self

    def fault_plan(self) -> FaultPlan:
        """The fault plan at first.

        Raises:
            FaultPlanError: where the file of `faults_path` holds no right plan.
        """
        if self.faults_path is not None:
            return load_fault_plan(self.faults_path)
        return self.faults or FaultPlan()
