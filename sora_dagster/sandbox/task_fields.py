"""The fields of a task's JSON, read with their type and range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

from sora_dagster.runware.models import VideoModel
from sora_dagster.sandbox.refusals import RefusedTaskError, parameter_page


class TaskFields:
    """The fields of one object of a task.

    Each reader returns the value, or None (False for a boolean) if the field is missing, and
    raises `RefusedTaskError` if the value has another type or is out of range.

    Arguments:
        values: the object.
        entry: the model, for links to its documentation.
        prefix: path of the object in the task, with a dot at its end.
    """

    def __init__(self, values: Mapping[str, Any], entry: VideoModel, prefix: str = "") -> None:
        self._values = values
        self._entry = entry
        self._prefix = prefix

    def refuse(self, code: str, name: str, what: str) -> NoReturn:
        """Refuse the task because of a field."""
        parameter = self._prefix + name
        raise RefusedTaskError(
            code,
            f"{parameter} {what}.",
            parameter=parameter,
            documentation=parameter_page(self._entry, parameter),
        )

    def refuse_unknown(self, known: frozenset[str] | set[str]) -> None:
        """Refuse fields that are not known."""
        for name in self._values:
            if name not in known:
                self.refuse("unsupportedParameter", name, "is not supported by this model")

    def child(self, name: str, known: set[str]) -> TaskFields:
        """The fields of an object in a field."""
        value = self._typed(name, Mapping, "an object")
        fields = TaskFields(value or {}, self._entry, prefix=f"{self._prefix}{name}.")
        fields.refuse_unknown(known)
        return fields

    def text(self, name: str, *, required: bool = False) -> str | None:
        """A string."""
        if required and name not in self._values:
            self.refuse(f"missing{_camel(name)}", name, "is required")
        value: str | None = self._typed(name, str, "a string")
        return value

    def items(self, name: str) -> Sequence[object] | None:
        """An array."""
        value: list[object] | None = self._typed(name, list, "an array")
        return value

    def number(self, name: str) -> float | None:
        """A number."""
        value = self._typed(name, (int, float), "a number")
        try:
            return None if value is None else float(value)
        except OverflowError:
            self._wrong(name, "is too large")

    def integer(self, name: str, *, at_least: int, at_most: int | None = None) -> int | None:
        """An integer in a range."""
        value: int | None = self._typed(name, int, "an integer")
        if value is not None and (value < at_least or (at_most is not None and value > at_most)):
            allowed = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
            self._wrong(name, f"is {value}; it must be {allowed}")
        return value

    def boolean(self, name: str) -> bool:
        """True or false."""
        return bool(self._typed(name, bool, "true or false"))

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """One of some strings."""
        value = self.text(name)
        if value is not None and value not in allowed:
            what = f"is {value!r}; it must be one of {', '.join(allowed)}"
            self.refuse(f"unsupported{_camel(name)}", name, what)
        return value

    def url(self, name: str) -> str | None:
        """An http or https URI."""
        value = self.text(name)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
        except ValueError:
            self._wrong(name, "must be a URI")
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
            self._wrong(name, "must be an http or https URI")
        return value

    def _typed(self, name: str, types: type | tuple[type, ...], article_and_type: str) -> Any:
        if name not in self._values:
            return None
        value = self._values[name]
        # In Python a boolean is an integer; in JSON it is not.
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            self._wrong(name, f"must be {article_and_type}")
        return value

    def _wrong(self, name: str, what: str) -> NoReturn:
        self.refuse(f"invalid{_camel(name)}", name, what)


def _camel(name: str) -> str:
    return name[0].upper() + name[1:]
