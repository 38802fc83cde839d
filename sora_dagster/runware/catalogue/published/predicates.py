"""Predicates of a JSON Schema over a request, as conditions of catalogue entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from sora_dagster.runware.catalogue.conditions import GIVEN, MISSING, Scalar

Terms = Mapping[str, tuple[Scalar, ...]]
"""One condition: fields and what they must be, all at once."""

_MAX_CASES = 64

# Without a word about whether the predicate holds.
_ANNOTATIONS = {"title", "description", "type", "examples", "default", "$comment", "deprecated"}


class UntranslatableError(Exception):
    """A part of a schema has no counterpart in the language of conditions."""


@dataclass(frozen=True)
class FieldNames:
    """Which fields conditions may name.

    Arguments:
        known: the fields that a request may have.
        always: those that every request has.
        sizes: the allowed sizes, as text, by their tiers. Default: none.
    """

    known: frozenset[str]
    always: frozenset[str]
    sizes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def presence(self, path: str, *, given: bool) -> list[Terms]:
        """The cases in which a field is given, or missing."""
        name = "size" if path in ("width", "height") else path
        if name in self.always:
            return [{}] if given else []
        if name not in self.known:
            if any(known.startswith(f"{name}.") for known in self.known):
                raise UntranslatableError
            # Requests never have a field that the entry does not know.
            return [] if given else [{}]
        return [{name: (GIVEN if given else MISSING,)}]


def cases(schema: Any, names: FieldNames, path: str = "") -> list[Terms]:
    """The cases in which a predicate holds; it holds if any of them does.

    Arguments:
        schema: the predicate.
        names: the fields that conditions may name.
        path: the field that it is about. Default: the request.

    Raises:
        UntranslatableError: if conditions cannot say it.
    """
    if schema is True or schema == {}:
        return [{}]
    if not isinstance(schema, dict):
        raise UntranslatableError
    found: list[Terms] = [{}]
    part: list[Terms]
    required = schema.get("required", [])
    for keyword, value in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        match keyword:
            case "required":
                part = [{}]
                for name in value:
                    if not _requires_parts(schema, name):
                        part = both(part, names.presence(_joined(path, name), given=True))
            case "properties":
                part = [{}]
                if is_size(schema):
                    part = [{"size": (f"{value['width']['const']}x{value['height']['const']}",)}]
                for name, sub in value.items():
                    if name in ("width", "height") and is_size(schema):
                        continue
                    part = both(part, _property(sub, names, _joined(path, name), name in required))
            case "const" if path:
                part = [{path: (_scalar(value),)}]
            case "enum" if path:
                part = [{path: tuple(map(_scalar, value))}]
            case "anyOf" | "oneOf":
                part = [case for sub in value for case in cases(sub, names, path)]
            case "allOf":
                part = [{}]
                for sub in value:
                    part = both(part, cases(sub, names, path))
            case "not":
                part = negated(cases(value, names, path))
            case _:
                raise UntranslatableError
        found = both(found, part)
    return [_simplified(case) for case in found]


def _simplified(case: Terms) -> Terms:
    """A condition without what follows from the rest of it."""
    is_implied = case.get("inputs") == (GIVEN,) and any(
        name.startswith("inputs.") and MISSING not in values for name, values in case.items()
    )
    return {name: case[name] for name in case if not (is_implied and name == "inputs")}


def _property(sub: Any, names: FieldNames, path: str, is_required: bool) -> list[Terms]:
    """The cases of a property; without `required`, it may also be missing."""
    if sub is False:
        return names.presence(path, given=False)
    found = cases(sub, names, path)
    if path in ("width", "height"):
        # Sizes are pairs; see `is_size`.
        raise UntranslatableError
    has_values = [case for case in found if path in case]
    if has_values and path not in names.known and path not in names.always:
        found = [case for case in found if path not in case]
    if is_required:
        return found
    if path in names.known and all(set(case) == {path} for case in found):
        return [{path: (*case[path], MISSING)} for case in found]
    if any(all(MISSING in values for values in case.values()) for case in found):
        return found
    return [*found, *names.presence(path, given=False)]


def _requires_parts(schema: Mapping[str, Any], name: str) -> bool:
    """Whether a property has required parts, so that its own presence follows from theirs."""
    sub = schema.get("properties", {}).get(name)
    return isinstance(sub, dict) and bool(sub.get("required"))


def is_size(branch: Any) -> bool:
    """Whether a part of a schema is one allowed size."""
    properties = branch.get("properties", {}) if isinstance(branch, dict) else {}
    return all(
        isinstance(properties.get(side), dict) and isinstance(properties[side].get("const"), int)
        for side in ("width", "height")
    )


def with_tiers(found: Sequence[Terms], names: FieldNames) -> list[Terms]:
    """The same cases with tiers in place of sizes.

    Raises:
        UntranslatableError: if sizes are not those of whole tiers.
    """
    sizes: dict[str, set[str]] = {}
    rests: dict[str, dict[str, tuple[Scalar, ...]]] = {}
    others: list[Terms] = []
    for case in found:
        listed = [value for value in case.get("size", ()) if value not in (GIVEN, MISSING)]
        if not listed:
            others.append(case)
            continue
        rest = {name: values for name, values in case.items() if name != "size"}
        rests[repr(rest)] = rest
        sizes.setdefault(repr(rest), set()).update(map(str, listed))
    merged: list[Terms] = []
    for key, rest in rests.items():
        tiers = tuple(tier for tier, own in names.sizes.items() if own <= sizes[key])
        if sizes[key] != {size for tier in tiers for size in names.sizes[tier]}:
            raise UntranslatableError
        merged.append({**rest, "tier": tiers})
        # A tier is also given by `resolution`.
        others = [
            case
            for case in others
            if not (
                set(case.get("resolution", (GIVEN,))) <= set(tiers)
                and {name: case[name] for name in case if name != "resolution"} == rest
            )
        ]
    return [*merged, *others]


def both(left: Sequence[Terms], right: Sequence[Terms]) -> list[Terms]:
    """The cases in which two predicates hold."""
    found: list[Terms] = []
    for one, other in product(left, right):
        merged = _merged(one, other)
        if merged is not None and merged not in found:
            found.append(merged)
    if len(found) > _MAX_CASES:
        raise UntranslatableError
    return found


def negated(predicate: Sequence[Terms]) -> list[Terms]:
    """The cases in which a predicate does not hold.

    Raises:
        UntranslatableError: if it is about values.
    """
    found: list[Terms] = [{}]
    for case in predicate:
        opposite: list[Terms] = []
        for name, values in case.items():
            if values == (GIVEN,):
                opposite.append({name: (MISSING,)})
            elif values == (MISSING,):
                opposite.append({name: (GIVEN,)})
            elif all(isinstance(value, bool) or value == MISSING for value in values):
                others = tuple(v for v in (True, False, MISSING) if v not in values)
                opposite += [{name: others}] if others else []
            else:
                raise UntranslatableError
        found = both(found, opposite)
    return found


def _merged(one: Terms, other: Terms) -> Terms | None:
    """Two conditions at once. None: they exclude each other."""
    merged = dict(one)
    for name, values in other.items():
        if name not in merged:
            merged[name] = values
            continue
        mine = merged[name]
        if GIVEN in (*mine, *values):
            # "given" says less than values do.
            rest = values if GIVEN in mine else mine
            allowed = tuple(value for value in rest if value != MISSING)
        else:
            allowed = tuple(value for value in mine if value in values)
        if not allowed:
            return None
        merged[name] = allowed
    return merged


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _scalar(value: Any) -> Scalar:
    if not isinstance(value, (str, int, float, bool)):
        raise UntranslatableError
    return value
