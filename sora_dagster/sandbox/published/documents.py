"""The documents about models that Runware publishes without a key, made from catalogue entries.

Their forms are those of the official SDK 1.8.0 and of stored copies of September 2026. What an
entry does not know, such as the date of a release, is left out.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Any

from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.runware.catalogue.conditions import GIVEN, condition_text
from sora_dagster.runware.catalogue.prices import Rate
from sora_dagster.sandbox.published.schema import request_schema, response_schema
from sora_dagster.sandbox.refusals import documentation_page, slug_of

Document = dict[str, Any]

_EXAMPLE_SECONDS = 5
_UNITS = {
    "durationSecond": "second",
    "video": "video",
    "inputImage": "input image",
    "inputVideoSecond": "second of input video",
}
_API = "https://api.runware.ai/v1"


def registry(catalogue: Catalogue, today: date) -> Document:
    """``registry.json``: the models that can be used. Retired ones are not listed."""
    models = {
        entry.air: {"taskType": "videoInference", "id": slug_of(entry)}
        for entry in catalogue.entries
        if status_of(entry, today) == "live"
    }
    text = json.dumps(models, sort_keys=True).encode()
    return {
        "version": hashlib.sha256(text).hexdigest()[:12],
        "models": models,
        "architectureTaskTypes": {},
        "modalityTaskTypes": {"video": "videoInference"},
    }


def resolved(entry: VideoModel) -> Document:
    """``/resolve/<AIR>``: the schemas of a model."""
    return {
        "requestSchema": request_schema(entry),
        "responseSchema": response_schema(),
        "documentation": documentation_page(entry),
    }


def metadata(entry: VideoModel, today: date) -> Document:
    """``/models/<AIR or slug>``: what a model is."""
    creator = entry.air.partition(":")[0]
    return {
        "model": slug_of(entry),
        "air": entry.air,
        "name": entry.name,
        "creator": creator,
        "capabilities": capabilities(entry),
        "category": ["video"],
        "status": status_of(entry, today),
        **_prices(entry),
    }


def pricing(entry: VideoModel, today: date) -> Document | None:
    """``/models/<AIR or slug>/pricing``: what a model costs. None: its prices are not published."""
    if not entry.prices.rates:
        return None
    data = metadata(entry, today)
    kept = ("model", "air", "name", "status", "category", *_prices(entry))
    return {name: data[name] for name in kept}


def openapi(entry: VideoModel, today: date) -> Document:
    """``/docs/models/<slug>/schema.json``: the OpenAPI document of a model."""
    prices = _prices(entry)
    reference = {"$ref": "#/components/schemas/RequestBody"}
    answer = {"$ref": "#/components/schemas/ResponseBody"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Runware API - {entry.name}",
            "version": "1.0.0",
            "x-model-id": slug_of(entry),
            "x-air-id": entry.air,
            "x-status": status_of(entry, today),
            "x-creator": {
                "id": entry.air.partition(":")[0],
                "name": entry.air.partition(":")[0].capitalize(),
            },
            "x-capabilities": capabilities(entry),
            "x-pricing": {
                "overview": prices.get("pricingOverview", ""),
                "examples": prices.get("pricingExamples", []),
                "rates": prices.get("pricingRates", []),
            },
        },
        "servers": [{"url": _API, "description": "Runware REST API"}],
        "paths": {
            "/": {
                "post": {
                    "requestBody": {"content": {"application/json": {"schema": reference}}},
                    "responses": {
                        "200": {
                            "description": "The acknowledgement.",
                            "content": {"application/json": {"schema": answer}},
                        }
                    },
                }
            }
        },
        "components": {
            "schemas": {
                "RequestBody": {"type": "array", "items": request_schema(entry)},
                "ResponseBody": response_schema(),
            }
        },
    }


def index(catalogue: Catalogue, today: date) -> list[Document]:
    """``/docs/models/index.json``: all models. Its form is not documented; assumed."""
    return [
        {
            "id": slug_of(entry),
            "air": entry.air,
            "name": entry.name,
            "category": "video",
            "status": status_of(entry, today),
            "capabilities": capabilities(entry),
            "url": documentation_page(entry),
        }
        for entry in catalogue.entries
    ]


def status_of(entry: VideoModel, today: date) -> str:
    """``live`` or ``retired``; the name of the second is not documented."""
    return "retired" if entry.retired is not None and entry.retired <= today else "live"


def capabilities(entry: VideoModel) -> list[str]:
    """What a model can do, in Runware's words."""
    needs_input = any(
        not rule.if_ and any(name.startswith("inputs") for name in rule.require)
        for rule in entry.rules
    )
    frames = entry.inputs.get("frameImages")
    found = {
        "text-to-video": not needs_input,
        "image-to-video": frames is not None and "first" in frames.positions,
        "reference-to-video": "referenceImages" in entry.inputs,
        "edit": "edit" in entry.remix or "remix" in entry.remix,
        "extend": "extend" in entry.remix,
        "audio": entry.audio != "never",
    }
    return [name for name, has_it in found.items() if has_it]


def _prices(entry: VideoModel) -> Document:
    """The prices of a model in words, as examples, and as rates."""
    prices = entry.prices
    if not prices.rates:
        return {}
    rates = [_rate(rate) for rate in prices.rates]
    for amount, unit in (
        (prices.input_image_usd, "inputImage"),
        (prices.input_video_second_usd, "inputVideoSecond"),
    ):
        if amount:
            rates.append({"amount": amount, "unit": unit, "label": ""})
    words = [
        f"${rate['amount']:g} per {_UNITS[rate['unit']]} {rate['label']}".rstrip() for rate in rates
    ]
    return {
        "pricingOverview": "; ".join(dict.fromkeys(words)),
        "pricingExamples": [_example(rate) for rate in prices.rates],
        "pricingRates": rates,
    }


def _rate(rate: Rate) -> Document:
    per_second = rate.usd_per_second is not None
    return {
        "amount": rate.usd_per_second if per_second else rate.usd,
        "unit": "durationSecond" if per_second else "video",
        "label": " ".join(_words(rate)),
    }


def _words(rate: Rate) -> list[str]:
    """The condition of a rate in the words of a label."""
    words = []
    for name, values in rate.if_.items():
        if name == "tier":
            words.append(" or ".join(map(str, values)))
        elif name == "audio":
            words.append("audio" if True in values else "no audio")
        elif name in ("inputs.video", "inputs.videoId", "inputs.referenceVideos"):
            words.append("with video input" if GIVEN in values else "without input")
        else:
            words.append(condition_text({name: values}))
    return words


def _example(rate: Rate) -> Document:
    usd = (rate.usd_per_second or 0) * _EXAMPLE_SECONDS + (rate.usd or 0)
    words = _words(rate)
    what = "video-edit" if "with video input" in words else "text-to-video"
    listed = [what, *(word for word in words if word != "with video input")]
    return {
        "configuration": " · ".join([*listed, f"{_EXAMPLE_SECONDS}s"]),
        "price": f"${usd:.4g}",
    }
