"""The column `settings`: parameters that only the row's model has."""

from __future__ import annotations

import json
import math

from pydantic import JsonValue

from sora_dagster.prompts.cells import (
    RowCells,
    json_value,
    parse_boolean,
    parse_number,
    raw_value,
)
from sora_dagster.prompts.files import COLUMNS, Cell
from sora_dagster.prompts.model_columns import models_with
from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.runware.catalogue.parts import Setting
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import did_you_mean


def read_settings(cells: RowCells, entry: VideoModel, catalogue: Catalogue) -> dict[str, JsonValue]:
    """The settings of a row, checked against its model's catalogue entry.

    Arguments:
        cells: the row; a wrong setting is reported.
        entry: the catalogue entry of its model.
        catalogue: all models, for messages.
    """
    values: dict[str, JsonValue] = {}
    for name, cell in cells.mapping("settings").items():
        setting = entry.settings.get(name)
        if setting is None:
            cells.report("settings", _unknown(name, entry, catalogue), cell=cell)
            continue
        value = _value(cell, setting)
        if value is None:
            message = f"the setting {name} has no value; allowed: {setting.allowed}, or remove it"
        elif (allowed := setting.problem(value)) is not None or not _is_json(value):
            message = (
                f"the setting {name} is {shown(raw_value(cell))}; allowed: "
                f"{allowed or 'values of JSON'} for {entry.name}{_nearest(value, setting)}"
            )
        else:
            values[name] = value
            continue
        cells.report("settings", message, cell=cell)
    return values


def _unknown(name: str, entry: VideoModel, catalogue: Catalogue) -> str:
    known = ", ".join(entry.settings) or "none"
    hint = ""
    if name in COLUMNS:
        hint = f"; write it into the column {name!r}"
    elif any(name in other.settings for other in catalogue.entries):
        others = models_with(lambda other: name in other.settings, catalogue)
        hint = f"; models with this setting: {others}"
    return (
        f"{entry.name} ({entry.air}) has no setting {shown(name)}"
        f"{did_you_mean(name, list(entry.settings))}; allowed: {known}{hint}"
    )


def _value(cell: Cell, setting: Setting) -> JsonValue:
    """The value of a cell in the type of its setting; one of another type stays as it is."""
    raw: JsonValue
    if setting.type == "boolean":
        switch = parse_boolean(cell)
        return json_value(cell) if switch is None else switch
    if setting.type in ("integer", "number"):
        number = parse_number(cell)
        if math.isnan(number):
            return json_value(cell)
        return int(number) if number.is_integer() else number
    if setting.type == "text":
        raw = cell.text if cell.text is not None else json_value(cell)
        if isinstance(raw, str):
            raw = raw.strip()
            same = {str(word).casefold(): word for word in setting.values}
            return same.get(raw.casefold(), raw)
        return raw
    if isinstance(cell.value, str) and cell.text is None:
        # In a cell of CSV, all values are texts.
        try:
            raw = json.loads(cell.value)
        except (ValueError, RecursionError):
            return cell.value
        return raw
    return json_value(cell)


def _is_json(value: JsonValue) -> bool:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return False
    return True


def _nearest(value: JsonValue, setting: Setting) -> str:
    """The nearest allowed number, for messages; nothing if there is no such thing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return ""
    numbers = [float(item) for item in setting.values if isinstance(item, (int, float))]
    if numbers:
        return f"; nearest: {min(numbers, key=lambda number: abs(number - value)):.15g}"
    if setting.type not in ("integer", "number"):
        return ""
    low = -math.inf if setting.min is None else setting.min
    high = math.inf if setting.max is None else setting.max
    nearest = min(max(value, low), high)
    return f"; nearest: {round(nearest) if setting.type == 'integer' else nearest:.15g}"
