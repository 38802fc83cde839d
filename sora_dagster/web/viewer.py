"""The viewer: shows stored clips, galleries and reports in browsers.

It serves only the folders of the storage root that are meant for browsers, read-only. If the store
can presign URLs, browsers are redirected to a short-lived URL and load videos from the store. It
answers only to its own host names, and has a login if a password is set.
"""

from __future__ import annotations

import html
import mimetypes
import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from sora_dagster.generation.protocol.layout import CLIPS_FOLDER, GALLERY_FOLDER, REPORTS_FOLDER
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot
from sora_dagster.web.access import AccessGuard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SHOWN_FOLDERS = (CLIPS_FOLDER, GALLERY_FOLDER, REPORTS_FOLDER)
_SIGNED_SECONDS = 3600
_CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PAGE = "text/html; charset=utf-8"


def create_app(
    root: StorageRoot, *, hosts: Collection[str] = (), password: str | None = None
) -> AccessGuard:
    """The viewer as an ASGI app: ``GET /<key>`` for objects in the shown folders.

    ``GET /`` redirects to the gallery, or lists the galleries if several datasets have one.
    ``GET /livez`` answers 200 while the process runs.

    Arguments:
        root: the storage root.
        hosts: host names that it answers to, besides ``localhost`` and IP addresses. Default: none.
        password: password of the login, with any user name; at least 16 characters. Default: no
            login.

    Raises:
        ValueError: if the password is too short.
    """
    from starlette.applications import Starlette
    from starlette.responses import (
        HTMLResponse,
        PlainTextResponse,
        RedirectResponse,
        StreamingResponse,
    )
    from starlette.routing import Route

    def show(request: Request) -> Response:
        key = str(request.path_params["key"])
        folder, _, rest = key.partition("/")
        if folder not in SHOWN_FOLDERS or not rest or ".." in key.split("/"):
            return PlainTextResponse(
                "not found: the viewer shows clips, galleries and reports only", status_code=404
            )
        try:
            info = root.info(key)
            if info is None:
                return PlainTextResponse(f"not found: {key}", status_code=404)
            kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
            if root.can_presign and kind.startswith(("video/", "image/")):
                signed = root.presign("GET", key, _SIGNED_SECONDS)
                return RedirectResponse(signed, headers={"Cache-Control": "no-store"})
            part = requested_range(request.headers.get("Range"), info.size_bytes)
            start, end = part or (0, info.size_bytes)
            if part is not None and start >= end:
                return PlainTextResponse(
                    f"range not satisfiable: {key} has {info.size_bytes} bytes",
                    status_code=416,
                    headers={"Content-Range": f"bytes */{info.size_bytes}"},
                )
            headers = {
                "Accept-Ranges": "bytes",
                "Content-Length": str(end - start),
                "Cache-Control": "no-cache",
                "X-Content-Type-Options": "nosniff",
            }
            if part is not None:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size_bytes}"
            body = iter(()) if request.method == "HEAD" else _bytes_of(root.open(key), start, end)
            return StreamingResponse(
                body,
                status_code=200 if part is None else 206,
                media_type=_PAGE if kind == "text/html" else kind,
                headers=headers,
            )
        except ObjectMissingError:
            return PlainTextResponse(f"not found: {key}", status_code=404)
        except StorageError as error:
            return PlainTextResponse(str(error), status_code=503)

    def front(_request: Request) -> Response:
        try:
            names = root.folders(GALLERY_FOLDER)
        except StorageError as error:
            return PlainTextResponse(str(error), status_code=503)
        if not names:
            return PlainTextResponse(
                "There is no gallery yet. Materialize the asset gallery, then reload this page.",
                status_code=404,
            )
        headers = {"Cache-Control": "no-cache"}
        if len(names) == 1:
            return RedirectResponse(_gallery_path(names[0]), status_code=307, headers=headers)
        return HTMLResponse(_list_of_galleries(names), headers=headers)

    app = Starlette(
        routes=[
            Route("/", front, methods=["GET"]),
            Route("/{key:path}", show, methods=["GET"]),
        ]
    )
    return AccessGuard(app, hosts=hosts, password=password)


def requested_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """The bytes that a ``Range`` header requests, as start and end.

    None: the whole object. A request for several ranges gets the whole object, which HTTP allows.
    Start and end are equal if the range is behind the object's end.

    >>> requested_range("bytes=10-19", 100), requested_range("bytes=-5", 100)
    ((10, 20), (95, 100))
    >>> requested_range("bytes=100-", 100), requested_range(None, 100)
    ((100, 100), None)
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size_bytes - int(last)), size_bytes
    start = min(int(first), size_bytes)
    return start, max(start, min(size_bytes, int(last) + 1 if last else size_bytes))


def _gallery_path(name: str) -> str:
    return f"/{GALLERY_FOLDER}/{quote(name)}/index.html"


def _list_of_galleries(names: Sequence[str]) -> str:
    links = "\n".join(
        f'<li><a href="{_gallery_path(name)}">{html.escape(name)}</a></li>' for name in names
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Galleries</title>'
        "<style>body{font:1rem/1.6 system-ui,sans-serif;margin:3rem auto;max-width:40rem;"
        "padding:0 1rem}</style></head>\n"
        f"<body><h1>Galleries</h1>\n<ul>\n{links}\n</ul></body></html>\n"
    )


def _bytes_of(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
