"""The rules between fields of an entry, evaluated for the fields of a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sora_dagster.runware.catalogue.conditions import (
    Fields,
    Scalar,
    condition_text,
    holds,
    is_one_of,
)
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import Rule
from sora_dagster.runware.errors import Problem
from sora_dagster.runware.redaction import shown


@dataclass(frozen=True)
class FieldRules:
    """The rules between fields of one model.

    Arguments:
        model: display name of the model.
        rules: the rules.
        sizes: the allowed sizes in words.
    """

    model: str
    rules: Sequence[Rule]
    sizes: str

    def broken(self, fields: Fields, *, only_presence: bool = False) -> Iterator[Problem]:
        """The broken rules.

        Arguments:
            fields: the fields of the request.
            only_presence: leave out the rules about values.
        """
        for rule in self.rules:
            if not holds(rule.if_, fields):
                continue
            for name in rule.forbid:
                if name in fields:
                    yield self._conflict(name, fields, rule)
            for name in rule.require:
                if name not in fields:
                    yield self._required((name,), rule)
            for names, is_required in ((rule.at_most_one_of, False), (rule.exactly_one_of, True)):
                given = [name for name in names if name in fields]
                for name in given[1:]:
                    yield Problem(
                        _field_of(name),
                        _value_of(name, fields),
                        f"{name} cannot be combined with {given[0]} for {self.model}; remove one "
                        f"of the two",
                    )
                if names and is_required and not given:
                    yield self._required(names, rule)
            if not only_presence:
                yield from self._limited_values(fields, rule)

    def _limited_values(self, fields: Fields, rule: Rule) -> Iterator[Problem]:
        where = _where(rule)
        for name, allowed in rule.allow.items():
            value = fields.get(name)
            if value is None or _is_allowed(value, allowed):
                continue
            listed = (
                allowed if isinstance(allowed, NumberRule) else ", ".join(map(_listed, allowed))
            )
            nearest = _nearest(value, allowed)
            hint = "" if nearest is None else f"; nearest: {nearest:.15g}"
            yield Problem(
                _field_of(name),
                _value_of(name, fields),
                f"{name} is {_value_of(name, fields)}; allowed: {listed}{where} for {self.model}"
                f"{hint}",
            )
        for name, most in rule.max_items.items():
            value = fields.get(name)
            count = len(value) if isinstance(value, (tuple, list)) else 1
            if value is not None and count > most:
                yield Problem(
                    name,
                    f"{count} items",
                    f"{name} has {count} items; allowed: at most {most}{where} for {self.model}",
                )

    def _conflict(self, name: str, fields: Fields, rule: Rule) -> Problem:
        return Problem(
            _field_of(name),
            _value_of(name, fields),
            f"{name} is not allowed{_where(rule)} for {self.model}; remove it",
        )

    def _required(self, names: Sequence[str], rule: Rule) -> Problem:
        what = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
        sizes = f"; sizes: {self.sizes} for {self.model}" if "size" in names else ""
        field = "width" if "size" in names else names[0]
        return Problem(
            field, "not given", f"{what} is required{_where(rule)} for {self.model}{sizes}"
        )


def _where(rule: Rule) -> str:
    return f" {condition_text(rule.if_)}" if rule.if_ else ""


def _listed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_allowed(value: object, allowed: NumberRule | tuple[Scalar, ...]) -> bool:
    if isinstance(allowed, NumberRule):
        return isinstance(value, (int, float)) and allowed.allows(value)
    return is_one_of(value, allowed)


def _nearest(value: object, allowed: NumberRule | tuple[Scalar, ...]) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if isinstance(allowed, NumberRule):
        return allowed.nearest(value)
    numbers = [number for number in allowed if isinstance(number, (int, float))]
    return min(numbers, key=lambda number: abs(number - value), default=None)


def _field_of(name: str) -> str:
    """The field of the request that a name of conditions stands for."""
    return "width" if name == "size" else name


def _value_of(name: str, fields: Fields) -> str:
    value = fields.get(name)
    if isinstance(value, bool) and name != "inputs":
        return _listed(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return str(value) if name == "size" else "given"
    return shown(value) if isinstance(value, str) else f"{value:.15g}"
