"""The resource for the Runware API."""

from typing import Any, Self

import dagster as dg
from pydantic import (
    Field,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from sora_dagster.generation.collecting.settings import Deadlines, PollSettings
from sora_dagster.generation.generator import GenerationSettings, Generator
from sora_dagster.generation.protocol.budget import DEFAULT_RUN_LIMIT_USD
from sora_dagster.generation.protocol.markers import WebhookAddress
from sora_dagster.generation.requesting.direct_delivery import DeliverySetting
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.resources.clip_storage import ClipStorageResource
from sora_dagster.resources.secret_fields import refuse_plain_secrets, secret_field, secret_value
from sora_dagster.runware.address_guard import parse_result_hosts, parse_result_networks
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import MissingKeyError
from sora_dagster.runware.published_catalogue import PublishedAddresses
from sora_dagster.runware.schema_check import SchemaCheckSetting, schema_check
from sora_dagster.runware.transport import DEFAULT_BASE_URL

API_KEY_VARIABLE = "RUNWARE_API_KEY"


class RunwareResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Runware API: key, address, batches, spending limits, and how results are awaited.

    Pass secrets as ``dg.EnvVar``, never as text, which Dagster's UI would show.

    Example:
        >>> RunwareResource(api_key=dg.EnvVar("TEAM_KEY"), max_usd_per_run=40).run_limit_usd()
        40.0
    """

    api_key: str | None = secret_field("The API key.", API_KEY_VARIABLE)
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Address of the API.")
    models_path: str | None = Field(
        default=None,
        description=(
            "YAML or JSON file with additional models, or a folder of such files. Default: none."
        ),
    )
    schema_check: SchemaCheckSetting = Field(
        default="off",
        description=(
            "Whether each request is also held to the JSON Schema that Runware publishes for its "
            "model: 'off', 'warn' (the log says what is wrong), or 'refuse' (it is not sent). "
            "Needs the extra 'schema'."
        ),
    )
    schemas_path: str | None = Field(
        default=None,
        description=(
            "Folder with saved schemas of models, for `schema_check`. Default: each schema is "
            "fetched from Runware, once per process."
        ),
    )
    schemas_url: str | None = Field(
        default=None,
        description=(
            "Server that schemas are fetched from. Default: Runware's; with a local sandbox, the "
            "sandbox."
        ),
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Timeout of an API request, in seconds."
    )
    submit_batch_size: int = Field(
        default=20, ge=1, description="Maximum number of clips submitted in one POST."
    )
    poll_batch_size: int = Field(
        default=50, ge=1, description="Maximum number of clips polled for in one POST."
    )
    webhook_url: str | None = Field(
        default=None,
        description="Public URL of the webhook receiver. Default: none, results are polled.",
    )
    webhook_secret: str | None = secret_field(
        "Secret that webhook URLs are signed with.", "SORA_WEBHOOK_SECRET"
    )
    hosted_seconds: int | None = Field(
        default=None,
        ge=60,
        description="How long Runware hosts a result (ttl), in seconds. Default: Runware's.",
    )
    max_usd_per_run: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description=f"Spending limit of a run in USD. Default: {DEFAULT_RUN_LIMIT_USD:.0f}.",
    )
    unlimited: bool = Field(
        default=False, description="No spending limit per run. Excludes max_usd_per_run."
    )
    max_usd_per_day: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Spending limit of a day (UTC) over all runs, in USD. Default: no limit.",
    )
    delivery: DeliverySetting = Field(
        default="auto",
        description=(
            "How videos come into the storage root: 'direct' (Runware uploads each to the bucket, "
            "with an address that is valid for one object; refused for a clip of several results, "
            "and for a store that cannot sign or be reached), 'download' (fetched from Runware), "
            "or 'auto' (direct if possible, else download)."
        ),
    )
    result_hosts: list[str] = Field(
        default=[],
        description=(
            "Domains that videos may be downloaded from, with their subdomains, in addition to "
            "runware.ai."
        ),
    )
    result_networks: list[str] = Field(
        default=[],
        description=(
            "Non-public networks in CIDR notation, such as 198.18.0.0/15, that hosts of videos "
            "may resolve to. Not needed behind a proxy (HTTPS_PROXY), which resolves hosts itself."
        ),
    )
    retry_wait_seconds: float = Field(
        default=10.0,
        ge=0,
        description="Wait before a second attempt, in seconds; doubles with each further attempt.",
    )
    replays: bool = Field(
        default=True,
        description=(
            "Whether a submission without a response is sent again with the same task UUID, which "
            "Runware refuses if it has the task."
        ),
    )
    confirm_seconds: float = Field(
        default=3.0, ge=0, description="Wait before polling for an unclear submission, in seconds."
    )
    unknown_minutes: float = Field(
        default=10.0,
        gt=0,
        description="How long a task must be unknown to Runware before it is sent again.",
    )
    generation_minutes: float = Field(
        default=30.0, gt=0, description="Longest expected duration of a generation."
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Maximum number of attempts of one take of a clip."
    )
    poll_first_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Wait before the first poll, in seconds. Default: 2; with a webhook 30.",
    )
    poll_longest_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Maximum wait between polls, in seconds. Default: 10; with a webhook 60.",
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _skip_environment_variables(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        # A variable has no value before a run starts; Dagster validates again then.
        is_variable = isinstance(value, (dg.EnvVar, type(dg.EnvVar.int("x"))))
        return value if is_variable else validate(value)

    @model_validator(mode="after")
    def _check_limit(self) -> Self:
        check_limit_fields(self.max_usd_per_run, self.unlimited, name="max_usd_per_run")
        return self

    def get_resource_definition(self) -> Any:
        """The resource as Dagster uses it; refuses secrets that are given as text.

        Raises:
            ValueError: naming the field.
        """
        refuse_plain_secrets(self)
        return super().get_resource_definition()

    @field_validator("result_hosts")
    @classmethod
    def _check_hosts(cls, hosts: list[str]) -> list[str]:
        parse_result_hosts(_known(hosts))
        return hosts

    @field_validator("result_networks")
    @classmethod
    def _check_networks(cls, networks: list[str]) -> list[str]:
        parse_result_networks(_known(networks))
        return networks

    def catalogue(self) -> Catalogue:
        """The models that clips may use.

        Raises:
            ValueError: if the file of entries is wrong.
        """
        return Catalogue.from_yaml(self.models_path) if self.models_path else Catalogue.builtin()

    def run_limit_usd(self) -> float | None:
        """Spending limit of a run in USD; None: no limit."""
        if self.unlimited:
            return None
        return DEFAULT_RUN_LIMIT_USD if self.max_usd_per_run is None else self.max_usd_per_run

    def polls(self) -> PollSettings:
        """When results are polled for."""
        first, longest = (2.0, 10.0) if self.webhook_url is None else (30.0, 60.0)
        return PollSettings(
            first_seconds=self.poll_first_seconds or first,
            longest_seconds=self.poll_longest_seconds or longest,
        )

    def resolve_api_key(self) -> str:
        """The API key.

        Raises:
            MissingKeyError: if there is none.
        """
        key = secret_value(self.api_key, API_KEY_VARIABLE)
        if key is None:
            raise MissingKeyError
        return key

    def client(self) -> RunwareClient:
        """An API client; close it after use.

        Raises:
            MissingKeyError: if there is no key.
        """
        return RunwareClient(
            self.resolve_api_key(),
            base_url=self.base_url,
            catalogue=self.catalogue(),
            timeout_seconds=self.timeout_seconds,
            submit_batch_size=self.submit_batch_size,
            poll_batch_size=self.poll_batch_size,
        )

    def generator(self, storage: ClipStorageResource) -> Generator:
        """The generator for this API and a storage root; close it after use.

        Raises:
            MissingKeyError: if there is no key.
            StorageError: if the storage root cannot be opened.
            ValueError: if the webhook's address or secret is wrong.
        """
        webhook = None
        if self.webhook_url is not None:
            secret = secret_value(self.webhook_secret, "SORA_WEBHOOK_SECRET")
            webhook = WebhookAddress(self.webhook_url, secret or "")
        # Opened first, so that no connection is made if there is no root.
        root = storage.root()
        dg.get_dagster_logger().info(f"storage root: {root.url}")
        return Generator(
            self.client(),
            root,
            GenerationSettings(
                webhook=webhook,
                polls=self.polls(),
                sending=SendSettings(confirm_seconds=self.confirm_seconds, replays=self.replays),
                deadlines=Deadlines(
                    unknown_seconds=self.unknown_minutes * 60,
                    generation_seconds=self.generation_minutes * 60,
                ),
                hosted_seconds=self.hosted_seconds,
                max_attempts=self.max_attempts,
                retry_wait_seconds=self.retry_wait_seconds,
                day_limit_usd=self.max_usd_per_day,
                delivery=self.delivery,
                result_hosts=tuple(self.result_hosts),
                result_networks=tuple(self.result_networks),
                schema_check=schema_check(
                    self.schema_check,
                    addresses=PublishedAddresses.for_api(self.base_url, self.schemas_url),
                    folder=self.schemas_path,
                    result_hosts=tuple(self.result_hosts),
                    result_networks=tuple(self.result_networks),
                ),
            ),
        )


def check_limit_fields(max_usd: float | None, unlimited: bool, *, name: str = "max_usd") -> None:
    """Refuse a spending limit together with its opposite.

    Raises:
        ValueError: naming both fields.
    """
    if unlimited and max_usd is not None:
        raise ValueError(f"{name} is {max_usd:g} and unlimited is true; set only one of them")


def _known(values: list[str]) -> list[str]:
    """The values that are not environment variables, which have none before a run starts."""
    return [value for value in values if not isinstance(value, dg.EnvVar)]
