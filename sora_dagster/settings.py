"""Settings of one dataset, and what they make: the dataset and its resources."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo, model_validator

from sora_dagster.environment.limits import parse_limit
from sora_dagster.environment.values import COMPLETE, SettingsError, SettingValues, values_in

# Dagster is imported by the methods that need it: the webhook receiver runs without it.
if TYPE_CHECKING:
    from sora_dagster.dataset import VideoDataset
    from sora_dagster.resources import ClipStorageResource, RunwareResource


class Settings(SettingValues):
    """The settings of a dataset, each with its environment variable, and what they make.

    A setting that is not given has the value of its variable, or else its default.

    Raises:
        ValueError: if a value, given or from a variable, is not allowed.

    Example:
        >>> Settings(prompts_path="/data/prompts.yaml").max_usd is None
        True
    """

    @model_validator(mode="before")
    @classmethod
    def _add_environment(cls, values: Any, info: ValidationInfo) -> Any:
        return values if info.context is COMPLETE else {**values_in(os.environ), **values}

    def dataset(self) -> VideoDataset:
        """The video dataset."""
        from sora_dagster.dataset import VideoDataset

        return VideoDataset(self.dataset_path(), catalogue=self.catalogue())

    def runware(self) -> RunwareResource:
        """The API resource."""
        from sora_dagster.resources import RunwareResource

        max_usd = parse_limit(self.max_usd, default_usd=None)
        max_usd_per_day = parse_limit(self.max_usd_per_day, default_usd=None)
        return RunwareResource(
            base_url=self.base_url,
            models_path=self.models_path,
            webhook_url=self.webhook_url,
            max_usd_per_run=max_usd,
            unlimited=self.max_usd is not None and max_usd is None,
            max_usd_per_day=max_usd_per_day,
            unlimited_per_day=self.max_usd_per_day is not None and max_usd_per_day is None,
            delivery=self.delivery,
            result_hosts=list(self.result_hosts),
            result_networks=list(self.result_networks),
            schema_check=self.schema_check,
            schemas_path=self.schemas_path,
            schemas_url=self.schemas_url,
            poll_first_seconds=None if self.webhook_url is None else self.webhook_wait_seconds,
        )

    def storage(self) -> ClipStorageResource:
        """The storage resource; without a URL if there is none, so that definitions load."""
        from sora_dagster.resources import ClipStorageResource

        try:
            url = self.storage_root_url()
        except SettingsError:
            # The run that opens the root raises the same error.
            url = None
        return ClipStorageResource(url=url, viewer_url=self.viewer_url)
