"""The resource for the Runware API."""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from pydantic import (
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from sora_dagster.environment.limits import parse_limit
from sora_dagster.environment.values import SettingValues
from sora_dagster.generation.collecting.settings import Deadlines, PollSettings
from sora_dagster.generation.generator import GenerationSettings, Generator
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.generation.status.problems import AccountAnswer, ask_account
from sora_dagster.resources.clip_storage import ClipStorageResource
from sora_dagster.resources.defined_values import with_defined_values
from sora_dagster.resources.run_settings import take_settings
from sora_dagster.resources.secret_fields import refuse_plain_secrets, secret_field, secret_value
from sora_dagster.resources.setting_fields import setting_field, setting_value, unset_variables
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import MissingKeyError
from sora_dagster.runware.published_catalogue import PublishedAddresses
from sora_dagster.runware.schema_check import schema_check

API_KEY_VARIABLE = "RUNWARE_API_KEY"
WEBHOOK_SECRET_VARIABLE = "SORA_WEBHOOK_SECRET"


class RunwareResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Runware API: key, address, batches, spending limits, and how results are awaited.

    A field that is unset has the value of its environment variable, which is read in the run. Pass
    secrets as ``dg.EnvVar``, never as text, which Dagster's UI would show.

    Example:
        >>> RunwareResource(api_key=dg.EnvVar("TEAM_KEY"), max_usd_per_run=40).run_limit_usd()
        40.0
    """

    api_key: str | None = secret_field("The API key.", API_KEY_VARIABLE)
    base_url: str | None = setting_field("URL of the API.", "base_url")
    models_path: str | None = setting_field(
        "YAML or JSON file with additional models, or a folder of such files.", "models_path"
    )
    schema_check: str | None = setting_field(
        "Whether each request is also validated against the JSON Schema that Runware publishes for "
        "its model: 'off', 'warn' (the log says what is wrong), or 'refuse' (it is not sent). "
        "Needs the extra 'schema'.",
        "schema_check",
    )
    schemas_path: str | None = setting_field(
        "Folder with saved schemas of models, for `schema_check`.", "schemas_path"
    )
    schemas_url: str | None = setting_field("Server that schemas are fetched from.", "schemas_url")
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Timeout of an API request, in seconds."
    )
    submit_batch_size: int = Field(
        default=20, ge=1, description="Maximum number of clips submitted in one POST."
    )
    poll_batch_size: int = Field(
        default=50, ge=1, description="Maximum number of clips polled for in one POST."
    )
    webhook_url: str | None = setting_field("Public URL of the webhook receiver.", "webhook_url")
    webhook_secret: str | None = secret_field(
        "Secret that webhook URLs are signed with.", WEBHOOK_SECRET_VARIABLE
    )
    hosted_seconds: int | None = Field(
        default=None,
        ge=60,
        description="How long Runware hosts a result (ttl), in seconds. Default: Runware's.",
    )
    max_usd_per_run: float | None = setting_field(
        "Spending limit per run in USD.", "max_usd", ge=0, allow_inf_nan=False
    )
    unlimited: bool = Field(
        default=False,
        description="No spending limit per run, whatever SORA_MAX_USD is. Cannot be "
        "combined with max_usd_per_run.",
    )
    max_usd_per_day: float | None = setting_field(
        "Daily spending limit (UTC) over all runs, in USD.",
        "max_usd_per_day",
        ge=0,
        allow_inf_nan=False,
    )
    unlimited_per_day: bool = Field(
        default=False,
        description="No spending limit per day, whatever SORA_MAX_USD_PER_DAY is. Cannot be "
        "combined with max_usd_per_day.",
    )
    delivery: str | None = setting_field(
        "How videos come into the storage root: 'direct' (Runware uploads each to the bucket, "
        "with a URL that is valid for one object; refused for a clip of several results, "
        "and for a store that cannot sign or be reached), 'download' (fetched from Runware), "
        "or 'auto' (direct if possible, else download).",
        "delivery",
    )
    result_hosts: list[str] | None = setting_field(
        "Domains that videos may be downloaded from, with their subdomains, in addition to "
        "runware.ai.",
        "result_hosts",
    )
    result_networks: list[str] | None = setting_field(
        "Non-public networks in CIDR notation, such as 198.18.0.0/15, that hosts of videos may "
        "resolve to. Not needed behind a proxy (HTTPS_PROXY), which resolves hosts itself.",
        "result_networks",
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
        description="How many minutes a task must be unknown to Runware before it is sent again.",
    )
    generation_minutes: float = Field(
        default=30.0, gt=0, description="Deadline of a generation, in minutes."
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Maximum number of attempts of one take of a clip."
    )
    poll_first_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Wait before the first poll, in seconds. Default: 2; with a webhook the "
        "variable SORA_WEBHOOK_WAIT, or 30.",
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
        check_limit_fields(
            self.max_usd_per_day,
            self.unlimited_per_day,
            name="max_usd_per_day",
            opposite="unlimited_per_day",
        )
        return self

    def create_resource(self, context: dg.InitResourceContext) -> Self:
        """The resource in a run: fields that the run config does not name keep their values.

        Raises:
            SettingsError: if the process lacks a variable that the code location has.
        """
        exclusive = [
            ("max_usd_per_run", "unlimited"),
            ("max_usd_per_day", "unlimited_per_day"),
        ]
        resource = with_defined_values(self, context, exclusive=exclusive)
        take_settings(context, resource._variables_read())
        return resource

    def _variables_read(self) -> list[str]:
        """The environment variables that count, since no field has their value."""
        unset = {
            API_KEY_VARIABLE: self.api_key is None,
            WEBHOOK_SECRET_VARIABLE: self.webhook_secret is None,
            "SORA_MAX_USD": self.max_usd_per_run is None and not self.unlimited,
            "SORA_MAX_USD_PER_DAY": self.max_usd_per_day is None and not self.unlimited_per_day,
        }
        return [*unset_variables(self), *(name for name, is_unset in unset.items() if is_unset)]

    def get_resource_definition(self) -> Any:
        """The resource as Dagster uses it; refuses secrets that are given as text.

        Raises:
            ValueError: naming the field.
        """
        refuse_plain_secrets(self)
        return super().get_resource_definition()

    @field_validator("delivery", "schema_check", "result_hosts", "result_networks")
    @classmethod
    def _check_setting(cls, value: Any, info: ValidationInfo) -> Any:
        known = _known(value) if isinstance(value, list) else value
        if known is not None and info.field_name is not None:
            SettingValues.check(info.field_name, known)
        return value

    def catalogue(self) -> Catalogue:
        """The models that clips may use.

        Raises:
            ValueError: if the file of entries is wrong.
        """
        path = self._value("models_path")
        return Catalogue.from_yaml(path) if path else Catalogue.builtin()

    def run_limit_usd(self) -> float | None:
        """Spending limit of a run in USD; None: no limit.

        Raises:
            SettingsError: if SORA_MAX_USD is needed, and not allowed.
        """
        if self.unlimited:
            return None
        if self.max_usd_per_run is not None:
            return self.max_usd_per_run
        return parse_limit(SettingValues.value_of("max_usd"))

    def day_limit_usd(self) -> float | None:
        """Daily spending limit (UTC) in USD; None: no limit.

        Raises:
            SettingsError: if SORA_MAX_USD_PER_DAY is needed, and not allowed.
        """
        if self.unlimited_per_day:
            return None
        if self.max_usd_per_day is not None:
            return self.max_usd_per_day
        return parse_limit(SettingValues.value_of("max_usd_per_day"), default_usd=None)

    def polls(self) -> PollSettings:
        """When results are polled for.

        Raises:
            SettingsError: if a variable is needed, and not allowed.
        """
        first, longest = 2.0, 10.0
        if self._value("webhook_url") is not None:
            first, longest = SettingValues.value_of("webhook_wait_seconds"), 60.0
        return PollSettings(
            first_seconds=self.poll_first_seconds or first,
            longest_seconds=self.poll_longest_seconds or longest,
        )

    def _value(self, field: str) -> Any:
        """The value of a field, or that of the setting of the same name if it is unset."""
        return setting_value(getattr(self, field), field)

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
            base_url=self._value("base_url"),
            catalogue=self.catalogue(),
            timeout_seconds=self.timeout_seconds,
            submit_batch_size=self.submit_batch_size,
            poll_batch_size=self.poll_batch_size,
        )

    def account_answer(self) -> AccountAnswer:
        """What Runware answers when it is asked for the account, once and within 10 s; free."""
        try:
            with RunwareClient(
                self.resolve_api_key(),
                base_url=self._value("base_url"),
                timeout_seconds=10.0,
                retry_attempts=1,
            ) as client:
                return ask_account(client)
        except MissingKeyError as error:
            return AccountAnswer(error=str(error), error_kind="authentication")

    def generator(
        self,
        storage: ClipStorageResource,
        dataset_day_limits_usd: Mapping[str, float] | None = None,
    ) -> Generator:
        """The generator for this API and a storage root; close it after use.

        Arguments:
            storage: the storage root.
            dataset_day_limits_usd: spending limits of a day (UTC) in USD, by dataset. Default:
                none.

        Raises:
            MissingKeyError: if there is no key.
            StorageError: if the storage root cannot be opened.
            ValueError: if the webhook's address or secret is wrong.
        """
        # All values are read here, so that a wrong one stops the run before anything is sent.
        self.run_limit_usd()
        hosts, networks = tuple(self._value("result_hosts")), tuple(self._value("result_networks"))
        # Opened first, so that no connection is made if there is no root.
        root = storage.root()
        dg.get_dagster_logger().info(f"storage root: {root.url}")
        return Generator(
            self.client(),
            root,
            GenerationSettings(
                webhook=self.webhook(),
                polls=self.polls(),
                sending=SendSettings(confirm_seconds=self.confirm_seconds, replays=self.replays),
                deadlines=Deadlines(
                    unknown_seconds=self.unknown_minutes * 60,
                    generation_seconds=self.generation_minutes * 60,
                ),
                hosted_seconds=self.hosted_seconds,
                max_attempts=self.max_attempts,
                retry_wait_seconds=self.retry_wait_seconds,
                limits=SpendingLimits(
                    day_usd=self.day_limit_usd(), dataset_day_usd=dataset_day_limits_usd or {}
                ),
                delivery=self._value("delivery"),
                result_hosts=hosts,
                result_networks=networks,
                schema_check=schema_check(
                    self._value("schema_check"),
                    addresses=PublishedAddresses.for_api(
                        self._value("base_url"), self._value("schemas_url")
                    ),
                    folder=self._value("schemas_path"),
                    result_hosts=hosts,
                    result_networks=networks,
                ),
            ),
        )

    def webhook(self) -> WebhookUrl | None:
        """The webhook receiver's address; None: results are polled.

        Raises:
            ValueError: if the address or the secret is wrong.
        """
        url = self._value("webhook_url")
        if url is None:
            return None
        return WebhookUrl(url, secret_value(self.webhook_secret, WEBHOOK_SECRET_VARIABLE) or "")


def check_limit_fields(
    max_usd: float | None, unlimited: bool, *, name: str = "max_usd", opposite: str = "unlimited"
) -> None:
    """Refuse a spending limit together with its opposite.

    Raises:
        ValueError: naming both fields.
    """
    if unlimited and max_usd is not None:
        raise ValueError(f"{name} is {max_usd:g} and {opposite} is true; set only one of them")


def _known(values: list[str]) -> list[str]:
    """The values that are not environment variables, which have none before a run starts."""
    return [value for value in values if not isinstance(value, dg.EnvVar)]
