"""The setting for direct delivery of videos into the bucket."""

from __future__ import annotations

import pytest

from sora_dagster.settings import Settings


def test_the_setting_comes_from_the_environment() -> None:
    settings = Settings.from_environment({"SORA_DELIVERY": "direct"})
    assert settings.runware().delivery == "direct"
    assert settings.to_environment()["SORA_DELIVERY"] == "direct"
    assert Settings.from_environment({}).delivery == "auto"


def test_an_unknown_setting_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="'pigeon' is not known; allowed are 'direct'"):
        Settings.from_environment({"SORA_DELIVERY": "pigeon"})
