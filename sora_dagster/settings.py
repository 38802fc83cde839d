"""Settings from environment variables, and the definitions that they make."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.fetching.address_guard import parse_result_hosts, parse_result_networks
from sora_dagster.generation.protocol.budget import parse_limit
from sora_dagster.generation.requesting.direct_delivery import DeliverySetting, parse_delivery
from sora_dagster.resources import NO_STORAGE_ROOT, ClipStorageResource, RunwareResource
from sora_dagster.runware.models import Catalogue
from sora_dagster.runware.transport import DEFAULT_BASE_URL, is_local_api
from sora_dagster.storage import normalized_url

_LOCAL_FOLDER = ".sora"
REPORTS_JOB = "make_reports"
_POLL_AFTER_SECONDS = 5.0


class SettingsError(ValueError):
    """A setting is missing that has no default here."""


@dataclass(frozen=True)
class Settings:
    """What the environment says; the same names everywhere.

    Relative paths are made absolute when settings are made, so that they mean the same in the
    processes that are started with them. Nothing else depends on the working directory.

    Arguments:
        base_url: address of the API (RUNWARE_BASE_URL).
        storage_url: storage root (SORA_STORAGE). None: the default of `storage_root_url`.
        prompts_path: the prompt dataset (SORA_PROMPTS). None: the default of `dataset_path`.
        webhook_url: public address of the webhook receiver (SORA_WEBHOOK_URL); None to poll.
        webhook_wait_seconds: how long a webhook is waited for before Runware is polled
            (SORA_WEBHOOK_WAIT).
        viewer_url: address of the viewer in browsers (SORA_VIEWER_URL); None where there is none.
        models_path: YAML file of further catalogue entries (SORA_MODELS).
        max_usd: spending limit of a run in USD, or ``unlimited`` (SORA_MAX_USD); 25 where not set.
        max_usd_per_day: spending limit of a day (UTC) in USD (SORA_MAX_USD_PER_DAY).
        boards: the storyboards (SORA_BOARDS, with commas between). None: the default of
            `board_paths`.
        delivery: how videos come into the storage root (SORA_DELIVERY).
        result_hosts: domains that videos are downloaded from, besides runware.ai
            (SORA_RESULT_HOSTS, comma-separated).
        result_networks: networks (CIDR) whose addresses are accepted although they are not public
            (SORA_RESULT_NETWORKS, comma-separated).
        dagster_home: folder of the Dagster instance (DAGSTER_HOME).
    """

    base_url: str = DEFAULT_BASE_URL
    storage_url: str | None = None
    prompts_path: str | None = None
    webhook_url: str | None = None
    webhook_wait_seconds: float = 30.0
    viewer_url: str | None = None
    models_path: str | None = None
    max_usd: str | None = None
    max_usd_per_day: str | None = None
    boards: tuple[str, ...] | None = None
    delivery: DeliverySetting = "auto"
    result_hosts: tuple[str, ...] = ()
    result_networks: tuple[str, ...] = ()
    dagster_home: str | None = None

    def __post_init__(self) -> None:
        boards = self.boards
        absolute = {
            "storage_url": _absolute_root(self.storage_url) if self.storage_url else None,
            "prompts_path": _absolute(self.prompts_path) if self.prompts_path else None,
            "models_path": _absolute(self.models_path) if self.models_path else None,
            "boards": None if boards is None else tuple(map(_absolute, boards)),
        }
        for name, value in absolute.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment; what is empty counts as not set.

        Raises:
            ValueError: if SORA_DELIVERY, SORA_WEBHOOK_WAIT, SORA_RESULT_HOSTS or
                SORA_RESULT_NETWORKS has a value that is not allowed.
        """

        def get(name: str) -> str | None:
            return environ.get(name, "").strip() or None

        return cls(
            base_url=get("RUNWARE_BASE_URL") or DEFAULT_BASE_URL,
            storage_url=get("SORA_STORAGE"),
            prompts_path=get("SORA_PROMPTS"),
            boards=_boards(get("SORA_BOARDS")),
            webhook_url=get("SORA_WEBHOOK_URL"),
            webhook_wait_seconds=_seconds(get("SORA_WEBHOOK_WAIT"), "SORA_WEBHOOK_WAIT", 30.0),
            viewer_url=get("SORA_VIEWER_URL"),
            models_path=get("SORA_MODELS"),
            max_usd=get("SORA_MAX_USD"),
            max_usd_per_day=get("SORA_MAX_USD_PER_DAY"),
            delivery=parse_delivery(get("SORA_DELIVERY")),
            result_hosts=parse_result_hosts(_listed(get("SORA_RESULT_HOSTS"))),
            result_networks=parse_result_networks(_listed(get("SORA_RESULT_NETWORKS"))),
            dagster_home=get("DAGSTER_HOME"),
        )

    def to_environment(self) -> dict[str, str]:
        """The same settings as environment variables, for processes that are started."""
        values = {
            "RUNWARE_BASE_URL": self.base_url,
            "SORA_STORAGE": self.storage_url,
            "SORA_PROMPTS": self.prompts_path,
            "SORA_BOARDS": None if self.boards is None else ",".join(self.boards),
            "SORA_WEBHOOK_URL": self.webhook_url,
            "SORA_WEBHOOK_WAIT": str(self.webhook_wait_seconds),
            "SORA_VIEWER_URL": self.viewer_url,
            "SORA_MODELS": self.models_path,
            "SORA_MAX_USD": self.max_usd,
            "SORA_MAX_USD_PER_DAY": self.max_usd_per_day,
            "SORA_DELIVERY": self.delivery,
            "SORA_RESULT_HOSTS": ",".join(self.result_hosts) or None,
            "SORA_RESULT_NETWORKS": ",".join(self.result_networks) or None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def catalogue(self) -> Catalogue:
        """The models that may be used.

        Raises:
            ValueError: where the file of entries is wrong.
        """
        return Catalogue.from_yaml(self.models_path) if self.models_path else Catalogue.builtin()

    def dataset_path(self) -> str | None:
        """The prompt dataset.

        Default: the example dataset with a local sandbox; with an API that may cost money, None.
        """
        if self.prompts_path is None and is_local_api(self.base_url):
            return str(example_prompts())
        return self.prompts_path

    def board_paths(self) -> tuple[str, ...]:
        """The storyboards. Default: the example's, if the example dataset is the default too."""
        if self.boards is None and self.prompts_path is None and is_local_api(self.base_url):
            return example_boards()
        return self.boards or ()

    def local_folder(self) -> Path | None:
        """The folder for what belongs to the dataset and has no other place.

        `.sora` beside the dataset, or else in the Dagster instance's folder, so that it is the same
        for every process and in every working directory. None if neither is set.
        """
        if self.prompts_path is not None:
            return folder_beside(self.prompts_path)
        if self.dagster_home is not None:
            return Path(self.dagster_home).resolve() / _LOCAL_FOLDER
        return None

    def storage_root_url(self) -> str:
        """The storage root. Default, with a local sandbox only: a folder of `local_folder`.

        Raises:
            SettingsError: if it is unset and has no default, so that nothing is paid for twice
                because two processes found different roots.
        """
        if self.storage_url is not None:
            return self.storage_url
        folder = self.local_folder()
        if folder is None or not is_local_api(self.base_url):
            raise SettingsError(NO_STORAGE_ROOT)
        return (folder / "storage").as_uri()

    def dataset(self) -> VideoDataset:
        """The video dataset."""
        return VideoDataset(self.dataset_path(), catalogue=self.catalogue())

    def runware(self) -> RunwareResource:
        """The API resource."""
        max_usd_per_run = parse_limit(self.max_usd)
        return RunwareResource(
            base_url=self.base_url,
            models_path=self.models_path,
            webhook_url=self.webhook_url,
            max_usd_per_run=max_usd_per_run,
            unlimited=max_usd_per_run is None,
            max_usd_per_day=parse_limit(self.max_usd_per_day, default_usd=None),
            delivery=self.delivery,
            result_hosts=list(self.result_hosts),
            result_networks=list(self.result_networks),
            poll_first_seconds=None if self.webhook_url is None else self.webhook_wait_seconds,
        )

    def storage(self) -> ClipStorageResource:
        """The storage resource; without a URL if there is none, so that definitions load."""
        try:
            url = self.storage_root_url()
        except SettingsError:
            # What opens the root says the same, in the run that needs it.
            url = None
        return ClipStorageResource(url=url, viewer_url=self.viewer_url)


def folder_beside(prompts_path: str | Path) -> Path:
    """The folder beside a dataset file for its storage root and Dagster instance by default."""
    # The folder is resolved and not the file, which may be a link to one of many versions.
    return Path(prompts_path).parent.resolve() / _LOCAL_FOLDER


def example_prompts() -> Path:
    """The prompt dataset that comes with the package, or with the repository."""
    package = Path(__file__).parent
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / "prompts.yaml").exists():
            return folder / "prompts.yaml"
    raise FileNotFoundError(
        "the example dataset is not installed; name a dataset of your own in SORA_PROMPTS"
    )


def example_boards() -> tuple[str, ...]:
    """The storyboard that comes with the example dataset."""
    return (str(example_prompts().parent / "boards" / "mangrove.yaml"),)


def _seconds(value: str | None, name: str, default: float) -> float:
    try:
        seconds = default if value is None else float(value)
    except ValueError:
        seconds = -1.0
    if not 1 <= seconds < math.inf:
        raise ValueError(f"{name} is {value!r}; a number of seconds from 1 on is expected")
    return seconds


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _absolute_root(url: str) -> str:
    # What is wrong with a URL is reported when it is opened, so that definitions load.
    return url if "://" in url else normalized_url(url)


def _boards(value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return _listed(value)


def _listed(value: str | None) -> tuple[str, ...]:
    """The entries of a comma-separated value."""
    return tuple(entry for part in (value or "").split(",") if (entry := part.strip()))
