"""Content type and metadata fit into what a store accepts."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.storage.attributes import MAX_METADATA_BYTES, ObjectAttributes


def encoded(**metadata: str) -> dict[str, str]:
    return ObjectAttributes("video/mp4", metadata).encoded_metadata()


@given(st.dictionaries(st.text(), st.text(max_size=600), max_size=30))
def test_any_metadata_becomes_headers(metadata: dict[str, str]) -> None:
    kept = ObjectAttributes("video/mp4", metadata).encoded_metadata()
    for name, value in kept.items():
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert all(" " <= character <= "~" for character in value)
        assert value == value.strip()
    assert sum(len(name) + len(value) for name, value in kept.items()) <= MAX_METADATA_BYTES


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.split() == [text]))
def test_a_short_value_can_be_read_back(value: str) -> None:
    assert unquote(encoded(clip=value)["clip"]) == value


def test_a_long_value_is_cut_between_characters_and_says_so() -> None:
    value = encoded(prompt="ü" * 300)["prompt"]
    assert len(value) <= 256
    assert value.endswith("...")
    assert set(unquote(value).removesuffix("...")) == {"ü"}


def test_what_does_not_fit_is_left_out_and_what_stands_first_stays() -> None:
    kept = ObjectAttributes(
        "video/mp4", {f"name-{number}": "x" * 250 for number in range(20)}
    ).encoded_metadata()
    assert list(kept) == [f"name-{number}" for number in range(7)]
