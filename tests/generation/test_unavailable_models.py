"""A model that Runware refuses as not available."""

from __future__ import annotations

from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.runware import Catalogue
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip, quick_generator, request_clips


def test_the_error_names_the_date_and_models_to_use_instead(root: StorageRoot) -> None:
    live = [entry for entry in Catalogue.builtin().entries if entry.retired is None]
    with (
        running_sandbox(SandboxSettings(), catalogue=Catalogue(live)) as base_url,
        quick_generator(base_url, root) as generator,
    ):
        [result] = request_clips(generator, clip(size="1280x720", duration_seconds=4))
        [again] = request_clips(generator, clip(size="1280x720", duration_seconds=4))
    assert result.state is RequestState.REFUSED
    assert result.error is not None
    assert result.error.kind == "model"
    assert not result.error.retryable
    for text in (result.detail, again.detail):
        assert "Sora 2 Pro was retired on 2026-09-24" in text
        assert "Available models for what is asked: " in text
        assert "SORA_MODEL" in text
