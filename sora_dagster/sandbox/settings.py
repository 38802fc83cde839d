"""Settings of the sandbox. The options of its command are made from the fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.sandbox.faults.plan import FaultPlan, UnknownPolls, load_fault_plan


class SandboxSettings(BaseModel):
    """How a sandbox behaves. A field with a name such as ``--port`` is an option of the command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, "--host"] = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, "--port"] = Field(
        0, ge=0, le=65535, description="Port to listen on; 0 for a free one."
    )
    api_key: Annotated[SecretStr, "--key"] = Field(
        SecretStr("sandbox-key"), description="The API key that is accepted."
    )
    extra_keys: Annotated[dict[str, str], "--extra-key"] = Field(
        {},
        repr=False,
        description="Another key that is accepted, and the UUID of its organization, which cannot "
        "see the tasks and videos of others. Can be repeated.",
    )
    latency_seconds: Annotated[float, "--latency"] = Field(
        3.0,
        ge=0,
        description="Minimum seconds from the acceptance of a task to its first result; "
        "longer if rendering takes longer.",
    )
    latency_step_seconds: Annotated[float, "--latency-step"] = Field(
        1.0, ge=0, description="Additional seconds for each next result of a task."
    )
    max_tasks_per_request: Annotated[int, "--max-tasks"] = Field(
        100, ge=1, description="Maximum tasks in one request; one with more is refused."
    )
    max_polls_per_request: Annotated[int, "--max-polls"] = Field(
        100, ge=1, description="Maximum polls in one request; 1 refuses batched polls."
    )
    unknown_polls: Annotated[UnknownPolls, "--unknown-polls"] = Field(
        "error",
        description="How a poll of an unknown task is answered: with an error, with no row, or "
        "with no row for unknown and running tasks alike. A fault plan can override it.",
    )
    reuse_rendered: Annotated[bool, "--reuse-rendered"] = Field(
        False,
        description="Give all videos of one size, length, format and quality the same bytes, so "
        "that load tests do not wait for rendering.",
    )
    webhook_timeout_seconds: Annotated[float, "--webhook-timeout"] = Field(
        5.0, gt=0, description="Seconds that a webhook's receiver may take to answer."
    )
    webhook_attempts: Annotated[int, "--webhook-attempts"] = Field(
        8, ge=1, description="Maximum attempts to send a webhook until it is answered with 2xx."
    )
    webhook_first_delay_seconds: Annotated[float, "--webhook-first-delay"] = Field(
        0.25, ge=0, description="Seconds before a webhook's second attempt; doubles each time."
    )
    balance_usd: Annotated[float, "--balance"] = Field(
        1000.0, ge=0, description="Initial balance of each account in USD."
    )
    render_workers: Annotated[int, "--render-workers"] = Field(
        1, ge=1, description="Videos rendered at the same time, one core each."
    )
    data_dir: Annotated[Path | None, "--data-dir"] = Field(
        None,
        description="Folder for the rendered videos and the journal of accepted tasks. A "
        "sandbox that is started with the same folder continues from it. Default: a temporary "
        "folder.",
    )
    render_cache_dir: Annotated[Path | None, "--render-cache"] = Field(
        None,
        description="Folder that shares reused videos between sandboxes; with --reuse-rendered.",
    )
    models_path: Annotated[Path | None, "--models"] = Field(
        None,
        description="File with catalogue entries of more models, or a folder of such files. "
        "Default: SORA_MODELS, or the built-in models only.",
    )
    faults_path: Annotated[Path | None, "--faults"] = Field(
        None,
        description="YAML or JSON file with a fault plan: what fails, when and how often.",
    )
    faults: FaultPlan | None = Field(None, description="The fault plan, in place of a file.")

    @model_validator(mode="after")
    def _one_plan(self) -> Self:
        if self.faults is not None and self.faults_path is not None:
            raise ValueError("give faults or faults_path, not both")
        return self

    def catalogue(self) -> Catalogue:
        """The available models.

        Raises:
            OSError: `models_path` cannot be read.
            ValueError: it has no valid entries.
        """
        if self.models_path is None:
            return Catalogue.builtin()
        return Catalogue.from_yaml(self.models_path)

    def fault_plan(self) -> FaultPlan:
        """The initial fault plan.

        Raises:
            FaultPlanError: the file of `faults_path` has no valid plan.
        """
        if self.faults_path is not None:
            return load_fault_plan(self.faults_path)
        return self.faults or FaultPlan()
