"""The page about the local Runware says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "sandbox.md").read_text(encoding="utf-8")


def test_the_fault_plan_of_the_page_is_valid() -> None:
    [plan] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(read_fault_plan(yaml.safe_load(plan)).rules) == 3


def test_the_documents_of_the_page_are_served() -> None:
    paths = re.findall(r"`(/(?:registry|resolve|models|docs)[^`]*)`", PAGE)
    assert len(paths) == 7
    with running_sandbox(SandboxSettings()) as base_url:
        http = SandboxApi(base_url).http
        for path in paths:
            for name, value in (
                ("<AIR>", "google:3@2"),
                ("<AIR or slug>", "google:3@2"),
                ("<slug>", "google-veo-3-1"),
            ):
                path = path.replace(name, value)
            assert http.get(base_url.removesuffix("/v1") + path).status_code == 200, path
