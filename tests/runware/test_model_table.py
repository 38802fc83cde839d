"""The page of models in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sora_dagster.runware import Catalogue
from sora_dagster.runware.pricing import price_of
from tests.runware.examples import request
from tests.runware.model_table import main, with_table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


def test_the_table_is_that_of_the_catalogue() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run: make models"
    for entry in Catalogue.builtin().entries:
        assert f"| `{entry.air}` |" in page


def test_an_old_table_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text("before\n<!-- models -->\nold\n<!-- end of models -->\nafter\n")
    main(page)
    assert "old" not in page.read_text()
    assert page.read_text().startswith("before\n<!-- models -->\n| model |")
    assert page.read_text().endswith("|\n<!-- end of models -->\nafter\n")


def test_a_page_without_a_place_for_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs one"):
        with_table("no place")


def test_the_example_of_an_entry_is_one(tmp_path: Path) -> None:
    page = PAGE.parents[1] / "how-to" / "another-model.md"
    examples = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    [example] = [text for text in examples if "acme" in text]
    (tmp_path / "models.yaml").write_text(example)
    entry = Catalogue.from_yaml(tmp_path / "models.yaml").get("acme-video-2")
    assert entry.remix_modes == ("edit", "continue")
    assert price_of(request(model=entry.air, duration=5), entry).usd == pytest.approx(0.6)
