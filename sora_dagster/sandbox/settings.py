"""Settings of the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class SandboxSettings(BaseModel):
    """How a sandbox behaves.

    Arguments:
        host: address to listen at.
        port: port to listen at; 0 for a free one.
        api_key: the only key that is accepted.
        latency_seconds: from the acceptance of a task to its first result, at least (a rendering
            that takes longer is waited for).
        latency_step_seconds: further time to each next result of the same task.
        max_tasks_per_request: most tasks in one POST; a POST with more is refused whole.
        max_polls_per_request: most `getResponse` tasks in one POST; 1 refuses batched polls.
        unknown_polls: how a poll of a UUID that was never seen is answered: with an error, or
            with no row at all.
        reuse_rendered: give every video of a size, length and format the same bytes, so that a
            load test does not wait for renderings.
        webhook_timeout_seconds: how long a receiver may take to answer.
        webhook_attempts: how often a webhook is sent until it is answered with 2xx.
        webhook_first_delay_seconds: wait before the second attempt; it doubles from then on.
        balance_usd: what the account has at first.
        render_workers: how many videos are rendered at a time, a core each.
        data_dir: where rendered videos and the journal of accepted tasks are kept, so that a
            sandbox that is started there again knows them; a temporary folder, removed at the
            end, where none is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    api_key: SecretStr = SecretStr("sandbox-key")
    latency_seconds: float = Field(default=3.0, ge=0)
    latency_step_seconds: float = Field(default=1.0, ge=0)
    max_tasks_per_request: int = Field(default=100, ge=1)
    max_polls_per_request: int = Field(default=100, ge=1)
    unknown_polls: Literal["error", "silent"] = "error"
    reuse_rendered: bool = False
    webhook_timeout_seconds: float = Field(default=5.0, gt=0)
    webhook_attempts: int = Field(default=8, ge=1)
    webhook_first_delay_seconds: float = Field(default=0.25, ge=0)
    balance_usd: float = Field(default=1000.0, ge=0)
    render_workers: int = Field(default=1, ge=1)
    data_dir: Path | None = None
