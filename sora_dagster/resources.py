"""Dagster resources: settings of the API client and of the storage root, and nothing more."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import Field, field_validator

from sora_dagster.generation.collecting.settings import Deadlines, PollSettings
from sora_dagster.generation.fetching.address_guard import parse_result_hosts, parse_result_networks
from sora_dagster.generation.generator import GenerationSettings, Generator
from sora_dagster.generation.protocol.budget import parse_limit
from sora_dagster.generation.protocol.markers import WebhookAddress
from sora_dagster.generation.requesting.direct_delivery import DeliverySetting
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import MissingKeyError
from sora_dagster.runware.models import Catalogue
from sora_dagster.runware.transport import DEFAULT_BASE_URL
from sora_dagster.storage import (
    AzureSettings,
    GcsSettings,
    S3Settings,
    StorageError,
    StorageRoot,
)

NO_STORAGE_ROOT = (
    "no storage root is set. Set SORA_STORAGE (or --storage, or the url of ClipStorageResource) to "
    "an absolute folder or a URL such as s3://bucket/prefix, the same for every process. There is "
    "a default only with a local sandbox, beside the dataset or else in DAGSTER_HOME: with an API "
    "that charges, a second root would pay for the same clips again"
)


class ClipStorageResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where clips are stored.

    The URL chooses the store; credentials come from where its own tools take them, and are
    refreshed in long runs:

    - S3: dagster-aws's `S3Resource` (region, endpoint, profile, keys, certificate checks); what it
      does not say comes from the ordinary AWS chain (environment variables, profile, container and
      instance roles).
    - Google Cloud Storage: a service account's file, or the application default credentials.
    - Azure Blob Storage: the account's key, a shared access signature or a connection string, or a
      service principal or managed identity.

    Secrets are no settings: they are read from the environment variables that are named here, so
    that they cannot show in Dagster's UI, run config or event log. docs/storage.md lists the
    permissions that each store must grant.

    Example:
        >>> from dagster_aws.s3 import S3Resource
        >>> storage = ClipStorageResource(
        ...     url="s3://bucket/clips", s3=S3Resource(region_name="eu-central-1")
        ... )
        >>> storage = ClipStorageResource(url="az://container/clips", azure_account_name="team")
        >>> ClipStorageResource(url="memory://").root().url
        'memory://'
    """

    s3: dg.ResourceDependency[S3Resource]

    url: str | None = Field(
        default=None,
        description=(
            "Storage root: an absolute folder, file:///folder, s3://bucket/prefix, "
            "gs://bucket/prefix, or az://container/prefix. One root belongs to one Runware "
            "account. If unset, definitions load, and runs stop with a message that says so."
        ),
    )
    viewer_url: str | None = Field(
        default=None,
        description=(
            "Address of `sora-dagster viewer` in browsers; events then link to it. None for none."
        ),
    )
    gcs_service_account_path: str | None = Field(
        default=None,
        description=(
            "For gs://: JSON file of a service account's key, which can sign URLs too; None for "
            "the application default credentials."
        ),
    )
    gcs_endpoint_url: str | None = Field(
        default=None, description="For gs://: address of another server than Google's."
    )
    azure_account_name: str | None = Field(
        default=None,
        description=(
            "For az://: the storage account; None for AZURE_STORAGE_ACCOUNT_NAME or the connection "
            "string's."
        ),
    )
    azure_account_key_variable: str = Field(
        default="AZURE_STORAGE_ACCOUNT_KEY",
        description=(
            "For az://: environment variable that holds the account's key, which can sign URLs too."
        ),
    )
    azure_sas_token_variable: str = Field(
        default="AZURE_STORAGE_SAS_TOKEN",
        description=(
            "For az://: environment variable that holds the container's shared access signature."
        ),
    )
    azure_connection_string_variable: str = Field(
        default="AZURE_STORAGE_CONNECTION_STRING",
        description="For az://: environment variable that holds a connection string.",
    )
    azure_endpoint_url: str | None = Field(
        default=None, description="For az://: address of another server than Azure's."
    )

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"s3": S3Resource(), **settings})

    def root(self) -> StorageRoot:
        """The storage root.

        Raises:
            StorageError: if it is unset or a relative folder, or cannot be opened.
        """
        if not self.url:
            raise StorageError(NO_STORAGE_ROOT)
        if "://" not in self.url and not Path(self.url).expanduser().is_absolute():
            raise StorageError(
                f"the storage root {self.url!r} depends on the working directory, and processes in "
                f"two directories would pay for the same clips twice; give an absolute folder or a "
                f"URL"
            )
        return StorageRoot(
            self.url,
            viewer_url=self.viewer_url,
            s3=S3Settings(
                region_name=self.s3.region_name,
                endpoint_url=self.s3.endpoint_url,
                profile_name=self.s3.profile_name,
                aws_access_key_id=self.s3.aws_access_key_id,
                aws_secret_access_key=self.s3.aws_secret_access_key,
                aws_session_token=self.s3.aws_session_token,
                use_ssl=self.s3.use_ssl,
                verify=self.s3.verify,
                use_unsigned_session=self.s3.use_unsigned_session,
                max_attempts=self.s3.max_attempts,
            ),
            gcs=GcsSettings(
                service_account_path=self.gcs_service_account_path,
                endpoint_url=self.gcs_endpoint_url,
            ),
            azure=AzureSettings(
                account_name=self.azure_account_name,
                account_key=os.environ.get(self.azure_account_key_variable) or None,
                sas_token=os.environ.get(self.azure_sas_token_variable) or None,
                connection_string=os.environ.get(self.azure_connection_string_variable) or None,
                endpoint_url=self.azure_endpoint_url,
            ),
        )


class RunwareResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Runware API: which key, which address, how requests are batched and results awaited.

    The key itself is no setting: it is read from the environment variable that is named here, so
    that it cannot show in Dagster's UI, run config or event log.

    Example:
        >>> RunwareResource(submit_batch_size=10).submit_batch_size
        10
    """

    api_key_variable: str = Field(
        default="RUNWARE_API_KEY", description="Environment variable that holds the API key."
    )
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Address of the API.")
    models_path: str | None = Field(
        default=None,
        description="YAML file with catalogue entries of further models; None for Sora 2 alone.",
    )
    timeout_seconds: float = Field(default=60.0, description="Longest wait for an answer.")
    submit_batch_size: int = Field(default=20, description="Most clips submitted in one POST.")
    poll_batch_size: int = Field(default=50, description="Most clips polled for in one POST.")
    webhook_url: str | None = Field(
        default=None,
        description="Public address of the webhook receiver; None to poll for results.",
    )
    webhook_secret_variable: str = Field(
        default="SORA_WEBHOOK_SECRET",
        description="Environment variable that holds the secret webhook addresses are signed with.",
    )
    hosted_seconds: int | None = Field(
        default=None,
        description="How long Runware hosts a result (ttl, at least 60); None for its default.",
    )
    max_usd_per_run: str | None = Field(
        default=None,
        description="Spending limit of a run in USD, or 'unlimited'; None for 25.",
    )
    max_usd_per_day: str | None = Field(
        default=None,
        description="Spending limit of a day (UTC) over all runs, in USD; None for none.",
    )
    delivery: DeliverySetting = Field(
        default="auto",
        description=(
            "How videos come into the storage root: 'direct' (Runware puts each into the bucket, "
            "by an address that is good for one object; a clip of several results, or a store "
            "that cannot sign or be reached, is refused), 'download' (they are fetched from "
            "Runware), or 'auto' (direct where it is possible, else download)."
        ),
    )
    result_hosts: list[str] = Field(
        default=[],
        description=(
            "Domains that videos are downloaded from, besides runware.ai; their subdomains are "
            "included."
        ),
    )
    result_networks: list[str] = Field(
        default=[],
        description=(
            "Networks in CIDR notation, such as 198.18.0.0/15, whose addresses are accepted for "
            "the hosts of videos although they are not public. Not needed behind a proxy "
            "(HTTPS_PROXY), which resolves hosts itself."
        ),
    )
    retry_wait_seconds: float = Field(
        default=10.0, description="Wait before a second attempt; doubles with each further one."
    )
    replays: bool = Field(
        default=True,
        description=(
            "Whether a submission whose answer was lost is sent again under the same task UUID, "
            "which Runware refuses where it has the task."
        ),
    )
    confirm_seconds: float = Field(
        default=3.0, description="Wait before an unclear submission is polled for."
    )
    unknown_minutes: float = Field(
        default=10.0,
        description="How long Runware must not know a task before it is sent again.",
    )
    generation_minutes: float = Field(
        default=30.0, description="How long a generation may take at the most."
    )
    max_attempts: int = Field(default=3, description="Most attempts of one take of a clip.")
    poll_first_seconds: float | None = Field(
        default=None,
        description="Wait before the first poll; None for 2, or 30 where there is a webhook.",
    )
    poll_longest_seconds: float | None = Field(
        default=None,
        description="Longest wait between polls; None for 10, or 60 where there is a webhook.",
    )

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
        """The models that may be used.

        Raises:
            ValueError: where the file of entries is wrong.
        """
        return Catalogue.from_yaml(self.models_path) if self.models_path else Catalogue.builtin()

    def run_limit_usd(self) -> float | None:
        """Spending limit of a run in USD; None for none.

        Raises:
            ValueError: where the setting is no limit.
        """
        return parse_limit(self.max_usd_per_run)

    def polls(self) -> PollSettings:
        """When results are polled for."""
        first, longest = (2.0, 10.0) if self.webhook_url is None else (30.0, 60.0)
        return PollSettings(
            first_seconds=self.poll_first_seconds or first,
            longest_seconds=self.poll_longest_seconds or longest,
        )

    def api_key(self) -> str:
        """The API key.

        Raises:
            MissingKeyError: if the environment variable is unset.
        """
        key = os.environ.get(self.api_key_variable, "").strip()
        if not key:
            raise MissingKeyError
        return key

    def client(self) -> RunwareClient:
        """An API client; to be closed.

        Raises:
            MissingKeyError: where the environment variable is not set.
        """
        return RunwareClient(
            self.api_key(),
            base_url=self.base_url,
            catalogue=self.catalogue(),
            timeout_seconds=self.timeout_seconds,
            submit_batch_size=self.submit_batch_size,
            poll_batch_size=self.poll_batch_size,
        )

    def generator(self, storage: ClipStorageResource) -> Generator:
        """The generator over this API and a storage root; to be closed.

        Raises:
            MissingKeyError: where there is no key.
            StorageError: where the storage root cannot be opened.
            ValueError: where the webhook's address or secret is wrong.
        """
        webhook = None
        if self.webhook_url is not None:
            secret = os.environ.get(self.webhook_secret_variable, "")
            webhook = WebhookAddress(self.webhook_url, secret)
        # First, so that no connection is opened if there is no root.
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
                day_limit_usd=parse_limit(self.max_usd_per_day, default_usd=None),
                delivery=self.delivery,
                result_hosts=tuple(self.result_hosts),
                result_networks=tuple(self.result_networks),
            ),
        )


def _known(values: list[str]) -> list[str]:
    """The values without those of environment variables, which have none before a run starts."""
    return [value for value in values if not isinstance(value, dg.EnvVar)]
