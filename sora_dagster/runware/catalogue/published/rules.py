"""The rules between fields of a published schema, as rules of a catalogue entry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sora_dagster.runware.catalogue.conditions import GIVEN, MISSING
from sora_dagster.runware.catalogue.published.predicates import (
    FieldNames,
    Terms,
    UntranslatableError,
    both,
    cases,
    is_size,
    negated,
    with_tiers,
)

_WITHOUT_A_RULE = {
    "title", "description", "type", "examples", "default", "$comment", "deprecated",
    "additionalProperties", "unevaluatedProperties", "$schema", "$id", "$defs", "definitions",
    "x-order", "format",
}  # fmt: skip
_MAX_RULES = 200

RuleData = dict[str, Any]


@dataclass
class PublishedRules:
    """The rules of a schema.

    Arguments:
        rules: those that could be translated, as data of an entry.
        notes: what could not, in words.
    """

    rules: list[RuleData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_rules(schema: Mapping[str, Any], names: FieldNames) -> PublishedRules:
    """The rules between fields of the schema of a task."""
    reader = _Reader(names)
    own = {key: value for key, value in schema.items() if key not in ("properties", "required")}
    reader.read(own, {})
    reader.require(schema.get("required", []), schema.get("properties", {}), {}, "")
    for name in ("inputs",):
        part = schema.get("properties", {}).get(name)
        if isinstance(part, dict):
            reader.read_part(part, name)
    return PublishedRules(_joined(reader.rules), list(dict.fromkeys(reader.notes)))


class _Reader:
    def __init__(self, names: FieldNames) -> None:
        self._names = names
        self.rules: list[RuleData] = []
        self.notes: list[str] = []

    def read_part(self, part: Mapping[str, Any], path: str) -> None:
        """The rules of an object of the request, which count if it is given."""
        self.require(part.get("required", []), part.get("properties", {}), {path: (GIVEN,)}, path)
        rules = {
            key: value
            for key, value in part.items()
            if key in ("not", "allOf", "if", "then", "else", "dependentRequired")
        }
        # The same rules, said of the whole request.
        for key, value in rules.items():
            for item in value if key == "allOf" else [{key: value}]:
                if not isinstance(item, dict) or set(item) - {"not", "dependentRequired"}:
                    self._note({"properties": {path: item}})
                elif "not" in item:
                    whole = {"required": [path], "properties": {path: item["not"]}}
                    self.read({"not": whole}, {})
                else:
                    self._dependent(item["dependentRequired"], {}, path)

    def read(self, schema: Any, condition: Terms) -> None:
        """Add the rules that a schema states under a condition."""
        if schema is True:
            return
        if not isinstance(schema, dict) or len(self.rules) > _MAX_RULES:
            self._note(schema)
            return
        for keyword, value in schema.items():
            if keyword in _WITHOUT_A_RULE or keyword in ("then", "else"):
                continue
            try:
                self._read_keyword(schema, keyword, value, condition)
            except (UntranslatableError, TypeError, AttributeError, KeyError):
                # Also a schema whose parts do not have the form that JSON Schema gives them.
                parts = ("if", "then", "else") if keyword == "if" else (keyword,)
                self._note({part: schema[part] for part in parts if part in schema})

    def _cases(self, predicate: Any) -> list[Terms]:
        return with_tiers(cases(predicate, self._names), self._names)

    def _read_keyword(
        self, schema: Mapping[str, Any], keyword: str, value: Any, condition: Terms
    ) -> None:
        match keyword:
            case "allOf":
                for item in value:
                    self.read(item, condition)
            case "not":
                self._forbid(both([condition], self._cases(value)))
            case "if":
                holding = self._cases(value)
                if "then" in schema:
                    for case in both([condition], holding):
                        self.read(schema["then"], case)
                if "else" in schema:
                    for case in both([condition], negated(holding)):
                        self.read(schema["else"], case)
            case "required":
                self.require(value, schema.get("properties", {}), condition, "")
            case "properties":
                for name, sub in value.items():
                    self._property(sub, name, condition)
            case "dependentRequired":
                self._dependent(value, condition, "")
            case "oneOf" | "anyOf":
                self._choice(keyword, value, condition)
            case _:
                raise UntranslatableError

    def require(
        self, required: Any, properties: Mapping[str, Any], condition: Terms, path: str
    ) -> None:
        """Add that fields must be sent."""
        for name in required:
            full = f"{path}.{name}" if path else name
            sub = properties.get(name)
            sub = sub if isinstance(sub, dict) else {}
            parts = sub.get("required")
            if parts and full not in self._names.known:
                # An object such as `settings`, which is given if its parts are.
                self.require(parts, sub.get("properties", {}), condition, full)
                continue
            for case in self._names.presence(full, given=True):
                for field_name in case:
                    if condition.get(field_name) != (GIVEN,):
                        self._add(condition, require=[field_name])
            if not self._names.presence(full, given=True):
                self._note({"required": [full]})
            if parts and (condition or path):
                self.require(parts, sub.get("properties", {}), condition, full)

    def _dependent(self, value: Mapping[str, Any], condition: Terms, path: str) -> None:
        for name, needed in value.items():
            full = f"{path}.{name}" if path else name
            if {full, *needed} <= {"width", "height"}:
                continue  # a size always has both
            for case in both([condition], self._names.presence(full, given=True)):
                self.require(needed, {}, case, path)

    def _property(self, sub: Any, path: str, condition: Terms) -> None:
        """Add what a property must be under a condition."""
        if sub is False:
            for case in self._names.presence(path, given=True):
                self._add(condition, forbid=list(case))
            return
        if not isinstance(sub, dict):
            raise UntranslatableError
        if path in ("width", "height"):
            raise UntranslatableError
        if "properties" in sub or "required" in sub or "not" in sub:
            for name, part in sub.get("properties", {}).items():
                self._property(part, f"{path}.{name}", condition)
            if sub.get("required"):
                self.require(sub["required"], sub.get("properties", {}), condition, path)
            if "not" in sub:
                whole = {"required": [path], "properties": {path: sub["not"]}}
                self._forbid(both([condition], self._cases(whole)))
            return
        limits = {key: value for key, value in sub.items() if key not in _WITHOUT_A_RULE}
        if not limits:
            return
        if path not in self._names.known:
            # Never sent, so nothing has to be checked.
            return
        if set(limits) == {"maxItems"}:
            self._add(condition, max_items={path: limits["maxItems"]})
        else:
            self._add(condition, allow={path: allowed_values(limits)})

    def _forbid(self, forbidden: list[Terms]) -> None:
        """Add that none of some cases may hold."""
        for case in forbidden:
            presence = [name for name, values in case.items() if values in ((GIVEN,), (MISSING,))]
            if not presence:
                raise UntranslatableError
            # The field that comes last in the condition is the one that is refused.
            name = presence[-1]
            rest = {key: value for key, value in case.items() if key != name}
            if case[name] == (GIVEN,):
                self._add(rest, forbid=[name])
            else:
                self._add(rest, require=[name])

    def _choice(self, keyword: str, branches: Any, condition: Terms) -> None:
        if all(is_size(branch) for branch in branches):
            # The allowed sizes; see `sizes_of`. They hold wherever there is a size.
            if set(condition) - {"size"}:
                raise UntranslatableError
            return
        fields: list[str] = []
        for branch in branches:
            found = self._cases(branch)
            if len(found) > 1 or any(list(case.values()) != [(GIVEN,)] for case in found):
                raise UntranslatableError
            # A branch about a field that is never sent has no case.
            fields.extend(name for case in found for name in case)
        if not fields:
            raise UntranslatableError
        if keyword == "oneOf" and len(fields) > 1:
            self._add(condition, exactly_one_of=fields)
        else:
            others = dict.fromkeys(fields[:-1], (MISSING,))
            self._add({**condition, **others}, require=fields[-1:])

    def _add(self, condition: Terms, **rule: Any) -> None:
        written = {
            name: values[0] if len(values) == 1 else list(values)
            for name, values in condition.items()
        }
        data: RuleData = {"if": written} if written else {}
        data.update(rule)
        if data not in self.rules:
            self.rules.append(data)

    def _note(self, part: Any) -> None:
        text = json.dumps(part, ensure_ascii=False)
        self.notes.append(
            f"a rule of the schema could not be translated: "
            f"{text if len(text) <= 300 else text[:299] + '…'}"
        )


def allowed_values(limits: Mapping[str, Any]) -> Any:
    """What a rule allows, as data of an entry: values, or a range.

    Raises:
        UntranslatableError: if it is something else.
    """
    match limits:
        case {"const": value} if len(limits) == 1:
            return [value]
        case {"enum": values} if len(limits) == 1:
            return list(values)
        case {"minimum": low, "maximum": high} if len(limits) == 2:
            return {"min": low, "max": high}
        case {"oneOf": parts} | {"anyOf": parts} if len(limits) == 1:
            values = [allowed_values(_without_annotations(part)) for part in parts]
            if all(isinstance(value, list) for value in values):
                return [item for value in values for item in value]
    raise UntranslatableError


def _without_annotations(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in part.items() if key not in _WITHOUT_A_RULE}


def _joined(rules: list[RuleData]) -> list[RuleData]:
    """Rules with the same condition as one, as far as they say the same kind of thing."""
    joined: list[RuleData] = []
    for rule in rules:
        kind = next(key for key in rule if key != "if")
        for other in joined:
            if kind not in ("forbid", "require") or kind not in other:
                continue
            if other.get("if") == rule.get("if"):
                other[kind] = list(dict.fromkeys([*other[kind], *rule[kind]]))
                break
        else:
            joined.append(dict(rule))
    return joined
