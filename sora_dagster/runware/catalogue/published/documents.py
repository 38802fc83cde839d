"""The documents that Runware publishes about a model, read from JSON.

Three forms are known:

- The OpenAPI file of a model's page, ``runware.ai/docs/models/<slug>/schema.json``, with
  ``x-air-id``, ``x-status`` and ``x-pricing`` in ``info`` (read in stored copies of September
  2026).
- ``schemas.runware.ai/resolve/<AIR>``: ``requestSchema``, ``responseSchema`` and
  ``documentation`` (official SDK 1.8.0).
- ``content.runware.ai/models/<AIR>`` and ``…/pricing``: name, status, ``pricingOverview`` and
  ``pricingExamples`` (official SDK 1.8.0). ``pricingRates`` is in a third party's copy only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

MAX_DOCUMENT_BYTES = 2_000_000
_MAX_DEPTH = 64
_MAX_NODES = 100_000
_MAX_DIGITS = 20

_ANNOTATIONS = {"title", "description", "default", "examples"}

# What is read of a schema, by the form that JSON Schema gives it.
_KEYWORDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("properties", "dependentRequired", "$defs", "definitions"), (dict,)),
    **dict.fromkeys(("required", "enum", "allOf", "anyOf", "oneOf"), (list,)),
    **dict.fromkeys(("items", "not", "if", "then", "else"), (dict, bool)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (int, float)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), (int,)),
    "multipleOf": (int, float),
    "title": (str,),
}
_WITH_NAMES = {
    *("properties", "dependentRequired", "dependentSchemas", "patternProperties"),
    *("$defs", "definitions"),
}
_DATA = {"const", "enum", "default", "examples"}

VIDEO_TASK = "videoInference"
Schema = Mapping[str, Any]


class PublishedDocumentError(ValueError):
    """A document about a model cannot be read. The message says why."""


@dataclass(frozen=True)
class PublishedRate:
    """A price of ``pricingRates``.

    Arguments:
        usd: the amount in USD.
        unit: what it is for, such as ``durationSecond``.
        label: when it counts, in words, such as ``720p with audio``.
    """

    usd: float
    unit: str
    label: str


@dataclass(frozen=True)
class PublishedExample:
    """An example of a price.

    Arguments:
        configuration: what was generated, such as ``text-to-video · 720p · 5s · audio``.
        usd: its price in USD.
    """

    configuration: str
    usd: float


@dataclass(frozen=True)
class PublishedModel:
    """What Runware publishes about one model.

    Arguments:
        air: Runware's id of the model. Empty: the document does not have it.
        name: display name. Empty: not published.
        status: such as ``live``. Empty: not published.
        capabilities: such as ``text-to-video``. Default: not published.
        schema: JSON Schema of one `videoInference` task, without references. None: not published.
        overview: the prices in words. Default: not published.
        rates: prices by unit. Default: not published.
        examples: examples of prices. Default: not published.
        source: where it was read.
    """

    air: str = ""
    name: str = ""
    status: str = ""
    capabilities: tuple[str, ...] = ()
    schema: Schema | None = None
    overview: str = ""
    rates: tuple[PublishedRate, ...] = ()
    examples: tuple[PublishedExample, ...] = ()
    source: str = ""

    def completed(self, other: PublishedModel) -> PublishedModel:
        """The same with what only another document about the model has."""
        missing = {
            name: value
            for name, value in vars(other).items()
            if not getattr(self, name) and value and name != "source"
        }
        return replace(self, **missing)

    @property
    def is_available(self) -> bool | None:
        """Whether its status is one of a model that can be used. None: there is no status."""
        if not self.status:
            return None
        return not any(word in self.status.lower() for word in _UNAVAILABLE_WORDS)


# The statuses are not documented; "live" is the one that was read.
_UNAVAILABLE_WORDS = ("retired", "deprecated", "disabled", "removed", "inactive", "sunset")


def read_document(text: str | bytes, source: str, *, air: str = "") -> PublishedModel:
    """Read a document of any known form.

    Arguments:
        text: the JSON.
        source: where it is from, for messages.
        air: the model that it must be about. Default: any.

    Raises:
        PublishedDocumentError: if it is not JSON, is too large or too deeply nested, is not about
            a video model, or is about another model.
    """
    document = _Document(_parsed(text, source), source)
    model = document.read()
    if air and model.air and model.air != air:
        document.fail(f"it is about {model.air}, not about {air}")
    return replace(model, air=model.air or air)


def read_file(path: Path) -> PublishedModel:
    """Read a saved document of any known form.

    Raises:
        OSError: if the file cannot be read.
        PublishedDocumentError: like `read_document`.
    """
    with path.open("rb") as file:
        # One byte more than allowed is enough to know that a file is too large.
        return read_document(file.read(MAX_DOCUMENT_BYTES + 1), str(path))


def _parsed(text: str | bytes, source: str) -> Any:
    if len(text) > MAX_DOCUMENT_BYTES:
        raise PublishedDocumentError(
            f"{source}: the document has more than {MAX_DOCUMENT_BYTES:,} bytes, so it is not read"
        )

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant[:40]} is not a number that can be read")

    def read_float(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits)

    def read_int(digits: str) -> int:
        return int(digits) if len(digits) <= _MAX_DIGITS else refuse(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=read_float, parse_int=read_int)
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as error:
        raise PublishedDocumentError(f"{source}: the document is not JSON: {error}") from error


def _too_deep(source: str) -> PublishedDocumentError:
    return PublishedDocumentError(
        f"{source}: the document is nested more than {_MAX_DEPTH} levels deep, so it is not read"
    )


@dataclass
class _Document:
    content: Any
    source: str
    nodes: int = field(default=0, init=False)

    def fail(self, reason: str) -> NoReturn:
        raise PublishedDocumentError(f"{self.source}: {reason}")

    def read(self) -> PublishedModel:
        content = self.content
        if not isinstance(content, dict):
            self.fail("a JSON object is expected")
        if "components" in content or "openapi" in content:
            return self._openapi()
        if "requestSchema" in content:
            return self._resolved()
        if {"pricingOverview", "pricingExamples", "pricingRates", "capabilities"} & set(content):
            return self._content()
        known = "an OpenAPI file, an answer of schemas.runware.ai/resolve, or of content.runware.ai"
        self.fail(f"this is not a document about a model; expected: {known}")

    def _openapi(self) -> PublishedModel:
        info = _dict(self.content.get("info"))
        schemas = _dict(_dict(self.content.get("components")).get("schemas"))
        if "RequestBody" not in schemas:
            self.fail("components.schemas.RequestBody is missing")
        schema = self._task_schema(schemas["RequestBody"])
        pricing = _dict(info.get("x-pricing"))
        air = _text(info.get("x-air-id")) or _air_of(schema)
        name = _text(info.get("title")).removeprefix("Runware API - ")
        return PublishedModel(
            air=air,
            name=name,
            status=_text(info.get("x-status")),
            capabilities=_texts(info.get("x-capabilities")),
            schema=schema,
            overview=_text(pricing.get("overview")),
            rates=tuple(_rates(pricing.get("rates"))),
            examples=tuple(_examples(pricing.get("examples"))),
            source=self.source,
        )

    def _resolved(self) -> PublishedModel:
        schema = self._task_schema(self.content["requestSchema"])
        return PublishedModel(air=_air_of(schema), schema=schema, source=self.source)

    def _content(self) -> PublishedModel:
        content = self.content
        return PublishedModel(
            air=_text(content.get("air")),
            name=_text(content.get("name")),
            status=_text(content.get("status")),
            capabilities=_texts(content.get("capabilities")),
            overview=_text(content.get("pricingOverview")),
            rates=tuple(_rates(content.get("pricingRates"))),
            examples=tuple(_examples(content.get("pricingExamples"))),
            source=self.source,
        )

    def _task_schema(self, schema: Any) -> Schema:
        """The schema of one task, of one or of an array of tasks."""
        schema = self._expanded(schema, ())
        if isinstance(schema, dict) and "items" in schema:
            schema = schema["items"]
        for candidate in _alternatives(schema):
            properties = _dict(candidate.get("properties"))
            task_type = _dict(properties.get("taskType"))
            types = task_type.get("enum", [task_type.get("const")])
            if VIDEO_TASK in types:
                return candidate
            if properties and types != [None]:
                self.fail(
                    f"it describes tasks of the type {', '.join(map(str, types))}; only "
                    f"{VIDEO_TASK} is supported"
                )
        self.fail(f"it has no schema of a {VIDEO_TASK} task (properties.taskType is missing)")

    def _expanded(self, node: Any, references: tuple[str, ...], depth: int = 0) -> Any:
        """A part of the document with its references replaced by what they refer to."""
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            self.fail(f"the schema has more than {_MAX_NODES:,} parts, so it is not read")
        if depth > _MAX_DEPTH:
            raise _too_deep(self.source)
        if isinstance(node, list):
            return [self._expanded(item, references, depth + 1) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if isinstance(reference, str):
            if reference in references:
                self.fail(f"the schema refers to itself: {' → '.join((*references, reference))}")
            target = self._expanded(self._target(reference), (*references, reference), depth + 1)
            beside = {name: value for name, value in node.items() if name != "$ref"}
            rest = self._expanded(beside, references, depth + 1)
            if not isinstance(target, dict) or set(rest) & (set(target) - _ANNOTATIONS):
                return {**rest, "allOf": [target, *_list(rest.get("allOf"))]}
            return {**target, **rest}
        return {name: self._keyword(name, node[name], references, depth) for name in node}

    def _keyword(self, name: str, value: Any, references: tuple[str, ...], depth: int) -> Any:
        kinds = _KEYWORDS.get(name)
        is_wrong = kinds is not None and not isinstance(value, kinds)
        if is_wrong or (isinstance(value, bool) and kinds is not None and bool not in kinds):
            self.fail(f"{name!r} of the schema has a wrong type: {str(value)[:80]!r}")
        if name == "required" and not all(isinstance(item, str) for item in value):
            self.fail("'required' of the schema must be a list of names")
        if name in _DATA:
            return value
        if name in _WITH_NAMES and isinstance(value, dict):
            return {key: self._expanded(sub, references, depth + 2) for key, sub in value.items()}
        return self._expanded(value, references, depth + 1)

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            self.fail(f"the schema refers to another document, {reference!a}, which is not fetched")
        # Schemas of an answer of /resolve may refer to their own root.
        for root in (self.content, _dict(self.content.get("requestSchema"))):
            found = root
            for part in reference.removeprefix("#/").split("/"):
                name = part.replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, dict) else None
            if found is not None:
                return found
        self.fail(f"the schema refers to {reference!a}, which is not in the document")


def _alternatives(schema: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict):
        return
    if "properties" in schema:
        yield schema
    for key in ("oneOf", "anyOf", "allOf"):
        for part in _list(schema.get(key)):
            if isinstance(part, dict) and "taskType" in _dict(part.get("properties")):
                yield part


def _air_of(schema: Schema) -> str:
    model = _dict(_dict(schema.get("properties")).get("model"))
    values = model.get("enum", [model.get("const")])
    return _text(values[0]) if isinstance(values, list) and len(values) == 1 else ""


def _rates(value: object) -> Iterator[PublishedRate]:
    for item in _list(value):
        usd = _usd(_dict(item).get("amount"))
        if usd is not None:
            yield PublishedRate(usd, _text(item.get("unit")), _text(item.get("label")))


def _examples(value: object) -> Iterator[PublishedExample]:
    for item in _list(value):
        usd = _usd(_dict(item).get("price"))
        if usd is not None:
            yield PublishedExample(_text(item.get("configuration")), usd)


def _usd(value: object) -> float | None:
    """A price such as ``0.2`` or ``"$1.17"``."""
    if isinstance(value, str):
        try:
            value = float(value.replace(",", "").strip().removeprefix("$"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e6 else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str:
    return " ".join(value.split())[:2000] if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, _list(value))))
