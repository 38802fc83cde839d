"""Which kind of error a raw code of the API stands for.

Runware is standardising its codes, and they differ between the providers behind it. So a raw code
is looked up by its exact name first, then by the family its words belong to, and the HTTP status
decides where the code says nothing. All names are compared in lower case.
"""

from __future__ import annotations

from typing import Literal

ErrorKind = Literal[
    "authentication",
    "quota",
    "rate_limit",
    "validation",
    "conflict",
    "safety",
    "provider",
    "timeout",
    "not_found",
    "server",
    "connection",
    "model",
    "unknown",
]

# Names met in Runware's documentation and in its official SDK whose words alone would mislead.
_EXACT: dict[str, ErrorKind] = {
    "conflicttaskuuid": "conflict",
    "environmentpaused": "quota",
    "paymentrequired": "quota",
    "toomanyrequests": "rate_limit",
    "queuefull": "rate_limit",
    "imageblocked": "safety",
    "invalidprovidercontent": "safety",
    "moderationfailed": "safety",
    "promptblocked": "safety",
    "downloadfailed": "provider",
    "inferenceerror": "provider",
    "mediastoragefilecouldnotbemoved": "provider",
    "modelnotready": "provider",
    "noavailableserver": "provider",
    "processingfailed": "provider",
    "taskfailed": "provider",
    "uploadfailed": "provider",
    # Somebody wanted it to end, so it is not one of the failures that are tried again.
    "taskcancelled": "unknown",
    "taskfailedornotfound": "not_found",
    "defaulterror": "server",
    "errorretrievingaccountmanagement": "server",
    "standarderror": "server",
    "undefinederror": "server",
    "unknownerror": "server",
    "unrecognizedresponse": "server",
    "modelalreadyexists": "validation",
    "modelownershipvalidationerror": "validation",
    "mismatchprovidersettingsprovider": "validation",
    "transparentmodelmismatch": "validation",
    "unknownparameter": "validation",
    "unknownprovidersettingsprovider": "validation",
    "incompatibleparameters": "validation",
    "validationfailed": "validation",
    "disconnected": "connection",
    "connectionfailed": "connection",
    "connectionlost": "connection",
}

# A code belongs to the first family of which it contains a word.
_FAMILIES: tuple[tuple[ErrorKind, tuple[str, ...]], ...] = (
    ("quota", ("credit", "quota", "balance", "insufficientfunds", "billing")),
    ("rate_limit", ("ratelimit", "concurrencylimit", "throttl")),
    (
        "safety",
        # Not "safety" alone: a wrong value of the field `safety.mode` is no refused content.
        ("contentpolicy", "contentdetected", "contentflagged", "safetyviolation", "moderation"),
    ),
    ("authentication", ("authtimeout",)),
    ("timeout", ("timeout", "timedout")),
    (
        "model",
        (
            "unknownmodel",
            "invalidmodel",
            "unsupportedmodel",
            "modelnotfound",
            "modelnotsupported",
            "modelunavailable",
            "modelnotavailable",
            "modeldisabled",
            "modelretired",
            "modeldeprecated",
            "modelremoved",
        ),
    ),
)

# An upstream provider's own refusal of its own key is not about the user's key, so the codes that
# begin with "provider" are taken out before these words are looked for.
_AUTHENTICATION_WORDS = (
    "apikey",
    "authentication",
    "authfailed",
    "credential",
    "forbidden",
    "permission",
    "tokenexpired",
    "tokeninvalid",
    "tokenmissing",
    "tokenrevoked",
    "invalidtoken",
    "missingtoken",
    "unauthorized",
    "suspended",
    "accountdisabled",
    "organizationdisabled",
    "workspacedisabled",
)

_SERVER_WORDS = ("internalserver", "internalerror", "serviceunavailable", "serverunavailable")

_VALIDATION_BEGINNINGS = (
    "invalid",
    "missing",
    "conflict",
    "duplicate",
    "unsupported",
    "value",
    "array",
    "max",
    "min",
    "required",
)

_STATUS: dict[int, ErrorKind] = {
    400: "validation",
    401: "authentication",
    402: "quota",
    403: "authentication",
    404: "not_found",
    408: "timeout",
    409: "validation",
    413: "validation",
    422: "validation",
    429: "rate_limit",
    504: "timeout",
}


def kind_of_error(code: str | None, status_code: int | None, parameter: str | None) -> ErrorKind:
    """The kind of error that a raw code, an HTTP status and a named parameter stand for.

    Where neither code nor status says anything, the kind is ``"unknown"``, which is not retryable:
    a task that may have been charged is not asked for again on a guess.
    """
    name = (code or "").lower().replace("_", "").replace("-", "")
    kind = _kind_of_name(name)
    if kind is None:
        kind = _kind_of_status(status_code, weak=False)
    if kind is None and name.startswith(_VALIDATION_BEGINNINGS):
        kind = "validation"
    if kind is None:
        kind = _kind_of_status(status_code, weak=True) or "unknown"
    if kind in ("validation", "not_found") and parameter == "model":
        return "model"
    return kind


def _kind_of_name(name: str) -> ErrorKind | None:
    if exact := _EXACT.get(name):
        return exact
    for kind, words in _FAMILIES:
        if any(word in name for word in words):
            return kind
    if name.startswith("provider"):
        return "not_found" if name.endswith("notfound") else "provider"
    if any(word in name for word in _AUTHENTICATION_WORDS):
        return "authentication"
    if name.endswith(("notfound", "expired")):
        return "not_found"
    if any(word in name for word in _SERVER_WORDS):
        return "server"
    return None


def _kind_of_status(status_code: int | None, *, weak: bool) -> ErrorKind | None:
    """The kind of an HTTP status; those that only say "refused" count where `weak` is set.

    One answer may hold errors of several tasks, so 400 says less than a code that begins with
    "invalid" or "missing".
    """
    if status_code is None or status_code < 400:
        return None
    kind: ErrorKind | None = _STATUS.get(status_code)
    if kind is None:
        kind = "server" if status_code >= 500 else "validation"
    return kind if weak or kind != "validation" else None
