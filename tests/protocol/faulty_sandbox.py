"""A sandbox whose faults can be set, and what stands around it, all in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import stamina

from sora_dagster.generation.fetching import resume
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageRoot
from sora_dagster.web.webhook import create_app
from tests.protocol.families import CATALOGUE
from tests.serving import serving

KEY = "sandbox-key"
SECRET = "the secret of the webhook addresses"


@dataclass(frozen=True)
class FaultySandbox:
    """A sandbox in this process whose faults can be set.

    Arguments:
        base_url: address of its API.
        http: asks it for what is no part of the API.
    """

    base_url: str
    http: httpx.Client = field(default_factory=httpx.Client)

    def set_faults(self, **plan: Any) -> None:
        """Put a fault plan in force; its counts begin anew."""
        answer = self.http.put(self._url("faults"), json=plan)
        assert answer.status_code == 200, answer.text

    def clear_faults(self) -> None:
        """Let no fault strike any more."""
        self.http.delete(self._url("faults")).raise_for_status()

    def struck(self) -> dict[str, int]:
        """How often each kind of fault of the plan struck."""
        counts: dict[str, int] = {}
        for rule in self.http.get(self._url("faults")).json()["rules"]:
            counts[rule["fault"]] = counts.get(rule["fault"], 0) + int(rule["struck"])
        return counts

    def books(self) -> dict[str, Any]:
        """All charges and counts since its start."""
        books: dict[str, Any] = self.http.get(self._url("ledger")).json()
        return books

    def _url(self, name: str) -> str:
        return self.base_url.removesuffix("/v1") + f"/sandbox/{name}"


@contextmanager
def faulty_sandbox(**settings: Any) -> Iterator[FaultySandbox]:
    """A sandbox whose generations end at once."""
    quick = SandboxSettings(
        latency_seconds=0,
        latency_step_seconds=0,
        reuse_rendered=True,
        balance_usd=1_000_000,
        webhook_attempts=3,
        webhook_first_delay_seconds=0.02,
        **settings,
    )
    with running_sandbox(quick, catalogue=CATALOGUE) as base_url, httpx.Client() as http:
        yield FaultySandbox(base_url, http)


class Receiver:
    """The webhook receiver at one address, over the root of whichever scenario runs."""

    def __init__(self) -> None:
        self._app: Any = None
        self.url = ""

    def over(self, root: StorageRoot) -> WebhookUrl:
        """Receive for a root; gives the address that its requests name."""
        self._app = create_app(root, SECRET)
        return WebhookUrl(f"{self.url}/runware", SECRET)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver on a port of this machine; it answers once it is given a root."""
    receiver = Receiver()
    receiver._app = create_app(StorageRoot("memory://"), SECRET)
    with serving(receiver) as url:
        receiver.url = url
        yield receiver


@contextmanager
def quick_requests() -> Iterator[None]:
    """Retries of single requests without their waits."""
    with pytest.MonkeyPatch.context() as patch, stamina.set_testing(True, attempts=4, cap=True):
        patch.setattr(resume, "FIRST_WAIT_SECONDS", 0.0)
        yield
