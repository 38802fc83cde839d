"""The resource for the storage root."""

import os
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import Field

from sora_dagster.environment.declarations import setting_variable
from sora_dagster.environment.values import NO_STORAGE_ROOT
from sora_dagster.resources.defined_values import with_defined_values
from sora_dagster.resources.run_settings import take_settings
from sora_dagster.resources.secret_fields import refuse_plain_secrets, secret_field, secret_value
from sora_dagster.resources.setting_fields import setting_field, setting_value
from sora_dagster.storage import (
    AzureSettings,
    GcsSettings,
    S3Settings,
    StorageError,
    StorageRoot,
    normalized_url,
)


class ClipStorageResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where clips are stored.

    The URL selects the store. Credentials come from the usual places of each store, and are
    refreshed in long runs:

    - S3: dagster-aws's `S3Resource` (region, endpoint, profile, keys, certificate checks), then the
      AWS default chain (environment variables, profile, container and instance roles).
    - Google Cloud Storage: a service account file, or the application default credentials.
    - Azure Blob Storage: the account key, a shared access signature, a connection string, a service
      principal or a managed identity.

    A field that is unset has the value of its environment variable, which is read in the run. Pass
    secrets as ``dg.EnvVar``, never as text, which Dagster's UI would show. docs/how-to/storage.md
    lists the permissions that each store must grant.

    Arguments:
        s3: for s3://: settings of dagster-aws.

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
            "account. Default: the variable SORA_STORAGE. If that is unset, definitions load, and "
            "runs stop with a message that says so."
        ),
    )
    viewer_url: str | None = setting_field(
        "Address of `sora-dagster viewer` in browsers, for links in events.", "viewer_url"
    )
    gcs_service_account_path: str | None = Field(
        default=None,
        description=(
            "For gs://: JSON file of a service account key, which can also sign URLs. Default: the "
            "application default credentials."
        ),
    )
    gcs_endpoint_url: str | None = Field(
        default=None, description="For gs://: address of the server. Default: Google's."
    )
    azure_account_name: str | None = Field(
        default=None,
        description=(
            "For az://: the storage account. Default: AZURE_STORAGE_ACCOUNT_NAME, or the account "
            "of the connection string."
        ),
    )
    azure_account_key: str | None = secret_field(
        "For az://: the account key, which can also sign URLs.", "AZURE_STORAGE_ACCOUNT_KEY"
    )
    azure_sas_token: str | None = secret_field(
        "For az://: a shared access signature of the container.", "AZURE_STORAGE_SAS_TOKEN"
    )
    azure_connection_string: str | None = secret_field(
        "For az://: a connection string.", "AZURE_STORAGE_CONNECTION_STRING"
    )
    azure_endpoint_url: str | None = Field(
        default=None, description="For az://: address of the server. Default: Azure's."
    )

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"s3": S3Resource(), **settings})

    def create_resource(self, context: dg.InitResourceContext) -> Self:
        """The resource in a run: fields that the run config does not name keep their values.

        Raises:
            SettingsError: if the process lacks a variable that the code location has.
        """
        resource = with_defined_values(self, context)
        if resource.url is None:
            take_settings(context, [setting_variable("storage_url").name])
        return resource

    def get_resource_definition(self) -> Any:
        """The resource as Dagster uses it; refuses secrets that are given as text.

        Raises:
            ValueError: naming the field.
            StorageError: if the URL is not one of a storage root.
        """
        refuse_plain_secrets(self)
        if self.url is not None and not isinstance(self.url, dg.EnvVar):
            normalized_url(_not_relative(self.url))
        return super().get_resource_definition()

    def root_url(self) -> str | None:
        """URL of the storage root; None if neither the field nor SORA_STORAGE is set."""
        if isinstance(self.url, dg.EnvVar):
            # The resource is used outside Dagster, which would have resolved it.
            return self.url.get_value()
        # Not made absolute, unlike that of Settings: workers may run in other folders.
        variable = setting_variable("storage_url").name
        return self.url or os.environ.get(variable, "").strip() or None

    def root(self) -> StorageRoot:
        """The storage root.

        Raises:
            StorageError: if it is unset or a relative folder, or cannot be opened.
        """
        url = self.root_url()
        if url is None:
            raise StorageError(NO_STORAGE_ROOT)
        return self.root_at(url)

    def root_at(self, url: str) -> StorageRoot:
        """A folder of a store, opened with the settings of this resource.

        Arguments:
            url: an absolute folder, or a URL, as for the storage root.

        Raises:
            StorageError: if it is a relative folder, or cannot be opened.
        """
        return StorageRoot(
            _not_relative(url),
            viewer_url=setting_value(self.viewer_url, "viewer_url"),
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
                account_key=secret_value(self.azure_account_key, "AZURE_STORAGE_ACCOUNT_KEY"),
                sas_token=secret_value(self.azure_sas_token, "AZURE_STORAGE_SAS_TOKEN"),
                connection_string=secret_value(
                    self.azure_connection_string, "AZURE_STORAGE_CONNECTION_STRING"
                ),
                endpoint_url=self.azure_endpoint_url,
            ),
        )


def _not_relative(url: str) -> str:
    """The URL of a storage root.

    Raises:
        StorageError: if it is a relative folder.
    """
    if "://" not in url and not Path(url).expanduser().is_absolute():
        raise StorageError(
            f"the storage root {url!r} depends on the working directory, so processes in "
            f"two directories would pay for the same clips twice; give an absolute folder or a "
            f"URL"
        )
    return url
