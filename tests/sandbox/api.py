"""A plain HTTP client of the sandbox, for tests: raw JSON in, raw JSON out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import httpx

_T = TypeVar("_T")


def until(look: Callable[[], _T | None], *, what: str, deadline_seconds: float = 60) -> _T:
    """Call `look` until it returns something, or fail at the deadline."""
    ends = time.monotonic() + deadline_seconds
    while not (found := look()):
        assert time.monotonic() < ends, f"{what} did not happen in {deadline_seconds:g} s"
        time.sleep(0.02)
    return found


def video_task(**fields: Any) -> dict[str, Any]:
    """A valid `videoInference` task; fields replace its own, or remove them if None."""
    task = {
        "taskType": "videoInference",
        "taskUUID": str(uuid4()),
        "model": "openai:3@2",
        "positivePrompt": "A paper boat on a stream",
        "width": 1280,
        "height": 720,
        "duration": 4,
        **fields,
    }
    return {name: value for name, value in task.items() if value is not None}


class SandboxApi:
    """Talks to a sandbox at its base URL (``http://HOST:PORT/v1``)."""

    def __init__(self, base_url: str, key: str = "sandbox-key") -> None:
        self.base_url = base_url
        # Nothing here is HTTPS; reading the certificates would be most of a short test's time.
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(headers=headers, timeout=30, verify=False)

    def post(self, *tasks: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.post(self.base_url, json=list(tasks), headers=headers)

    def refusal(self, task: dict[str, Any]) -> dict[str, Any]:
        """The error of a task that is refused."""
        response = self.post(task)
        assert response.status_code == 400, response.text
        errors: list[dict[str, Any]] = response.json()["errors"]
        assert len(errors) == 1, errors
        return errors[0]

    def poll(self, task_uuid: str) -> httpx.Response:
        return self.post({"taskType": "getResponse", "taskUUID": task_uuid})

    def rows(self, task_uuid: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.poll(task_uuid).json()["data"]
        return rows

    def results(self, task_uuid: str, count: int = 1) -> list[dict[str, Any]]:
        """The finished rows of a task, once there are that many."""

        def finished() -> list[dict[str, Any]] | None:
            rows = [row for row in self.rows(task_uuid) if row["status"] == "success"]
            return rows if len(rows) >= count else None

        return until(finished, what=f"{count} results of {task_uuid}")

    def video(self, **fields: Any) -> dict[str, Any]:
        """The finished row of a new task with one result."""
        task = video_task(**fields)
        response = self.post(task)
        assert response.status_code == 200, response.text
        return self.results(task["taskUUID"])[0]

    def set_faults(self, *rules: dict[str, Any], **modes: Any) -> None:
        """Put a fault plan in force."""
        response = self.http.put(self.faults_url, json={"rules": list(rules), **modes})
        assert response.status_code == 200, response.text

    def struck(self) -> list[int]:
        """How often each rule of the plan struck."""
        return [rule["struck"] for rule in self.http.get(self.faults_url).json()["rules"]]

    def details(self, task_uuid: str) -> httpx.Response:
        return self.post({"taskType": "getTaskDetails", "taskUUID": task_uuid})

    def charged(self) -> list[str]:
        """UUIDs of the tasks that were charged, one for each charge."""
        return [charge["taskUUID"] for charge in self.ledger()["charges"]]

    @property
    def faults_url(self) -> str:
        return self.base_url.replace("/v1", "/sandbox/faults")

    def ledger(self) -> dict[str, Any]:
        ledger: dict[str, Any] = self.http.get(
            self.base_url.replace("/v1", "/sandbox/ledger")
        ).json()
        return ledger
