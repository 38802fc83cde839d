"""Serves what Runware publishes about models without a key: schemas, prices and pages.

Runware has three hosts for it: `schemas.runware.ai`, `content.runware.ai` and `runware.ai`. The
sandbox serves all of their paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.sandbox.published import documents
from sora_dagster.sandbox.refusals import slug_of

# The client of the official SDK keeps the registry for this time.
_MAX_AGE_SECONDS = 300
_PAGE_SIZE = 20


@dataclass(frozen=True)
class PublishedModels:
    """The documents about the models of a catalogue, over HTTP.

    Arguments:
        catalogue: the models.
        clock: returns the Unix time in seconds, which decides what is retired.
    """

    catalogue: Catalogue
    clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """The routes of all documents. They need no key."""
        return [
            Route("/registry.json", self._registry),
            Route("/resolve/{model}", self._of_model(lambda entry: documents.resolved(entry))),
            Route("/models", self._list),
            Route(
                "/models/{model}/pricing",
                self._of_model(lambda entry: documents.pricing(entry, self._today)),
            ),
            Route(
                "/models/{model}",
                self._of_model(lambda entry: documents.metadata(entry, self._today)),
            ),
            Route("/docs/models/index.json", self._index),
            Route(
                "/docs/models/{model}/schema.json",
                self._of_model(lambda entry: documents.openapi(entry, self._today)),
            ),
        ]

    @property
    def _today(self) -> date:
        return datetime.fromtimestamp(self.clock(), UTC).date()

    async def _registry(self, request: Request) -> Response:
        return _answer(request, documents.registry(self.catalogue, self._today))

    async def _index(self, request: Request) -> Response:
        return _answer(request, documents.index(self.catalogue, self._today))

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        found = [
            data
            for entry in self.catalogue.entries
            if _is_listed(data := documents.metadata(entry, self._today), query)
        ]
        if query.get("paginate") != "true":
            return _answer(request, found)
        offset, limit = (
            int(text) if (text := query.get(name, "")).isdigit() else default
            for name, default in (("offset", 0), ("limit", _PAGE_SIZE))
        )
        page = {"total": len(found), "limit": limit, "offset": offset}
        return _answer(request, {**page, "items": found[offset : offset + limit]})

    def _of_model(self, document: Callable[[VideoModel], Any]) -> Callable[[Request], Any]:
        async def serve(request: Request) -> Response:
            name = request.path_params["model"]
            for entry in self.catalogue.entries:
                if name in (entry.air, slug_of(entry)):
                    return _answer(request, document(entry))
            return JSONResponse({"error": f"There is no model {name}."}, status_code=404)

        return serve


def _is_listed(model: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    return (
        all(
            query.get(name) in (None, *_listed(model[field]))
            for name, field in (
                ("category", "category"),
                ("status", "status"),
                ("creator", "creator"),
                ("capability", "capabilities"),
            )
        )
        and query.get("search", "").lower() in f"{model['name']} {model['air']}".lower()
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _answer(request: Request, document: Any) -> Response:
    """A document, or 304 if the client has it already."""
    body = json.dumps(document, separators=(",", ":")).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"max-age={_MAX_AGE_SECONDS}"}
    known = [item.strip() for item in request.headers.get("if-none-match", "").split(",")]
    if tag in known or f"W/{tag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
