"""Maps the raw error codes of the API to kinds of errors.

Runware is standardising its codes, and they differ between the providers behind it. So a code is
looked up by its exact name first, then by the words in it; the HTTP status decides if the code
says nothing. All names are compared in lower case, without `_` and `-`.
"""

from __future__ import annotations

import re
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

# Codes of Runware's documentation and its official SDK whose words alone would mislead.
_EXACT_NAMES: dict[ErrorKind, str] = {
    "conflict": "conflicttaskuuid",
    "quota": "environmentpaused paymentrequired",
    "rate_limit": "toomanyrequests queuefull",
    "safety": "imageblocked invalidprovidercontent moderationfailed promptblocked",
    "provider": "downloadfailed inferenceerror mediastoragefilecouldnotbemoved modelnotready "
    "noavailableserver processingfailed taskfailed uploadfailed",
    # Cancelled on purpose, so it is not one of the failures that are retried.
    "unknown": "taskcancelled",
    "not_found": "taskfailedornotfound",
    "server": "defaulterror errorretrievingaccountmanagement standarderror undefinederror "
    "unknownerror unrecognizedresponse",
    "validation": "modelalreadyexists modelownershipvalidationerror "
    "mismatchprovidersettingsprovider transparentmodelmismatch unknownparameter "
    "unknownprovidersettingsprovider incompatibleparameters validationfailed",
    "connection": "disconnected connectionfailed connectionlost",
}
_EXACT: dict[str, ErrorKind] = {
    name: kind for kind, names in _EXACT_NAMES.items() for name in names.split()
}

# A code is of the first kind of which it contains a word.
_WORDS: dict[ErrorKind, str] = {
    "quota": "credit quota balance insufficientfunds billing",
    "rate_limit": "ratelimit concurrencylimit throttl",
    # Not "safety" alone: a wrong value of the field `safety.mode` is not refused content.
    "safety": "contentpolicy contentdetected contentflagged safetyviolation moderation",
    "authentication": "authtimeout",
    "timeout": "timeout timedout",
    "model": "unknownmodel invalidmodel unsupportedmodel modelnotfound modelnotsupported "
    "modelunavailable modelnotavailable modeldisabled modelretired modeldeprecated modelremoved",
}

# A provider's refusal of its own key is not about the user's key, so codes that begin with
# "provider" are handled before these words.
_AUTHENTICATION_WORDS = (
    "apikey authentication authfailed credential forbidden permission tokenexpired tokeninvalid "
    "tokenmissing tokenrevoked invalidtoken missingtoken unauthorized suspended accountdisabled "
    "organizationdisabled workspacedisabled"
)
_SERVER_WORDS = "internalserver internalerror serviceunavailable serverunavailable"

_VALIDATION_PREFIX = re.compile(
    "invalid|missing|conflict|duplicate|unsupported|value|array|max|min|required"
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
    """The kind of an error, by its raw code, its HTTP status and the parameter that it names.

    If neither code nor status says anything, the kind is ``"unknown"``, which is not retryable: a
    task that may have been charged is not requested again on a guess.
    """
    name = (code or "").lower().replace("_", "").replace("-", "")
    kind = _kind_of_name(name)
    if kind is None:
        kind = _kind_of_status(status_code, weak=False)
    if kind is None and _VALIDATION_PREFIX.match(name):
        kind = "validation"
    if kind is None:
        kind = _kind_of_status(status_code, weak=True) or "unknown"
    if kind in ("validation", "not_found") and parameter == "model":
        return "model"
    return kind


def _kind_of_name(name: str) -> ErrorKind | None:
    if exact := _EXACT.get(name):
        return exact
    for kind, words in _WORDS.items():
        if _has_word(name, words):
            return kind
    if name.startswith("provider"):
        return "not_found" if name.endswith("notfound") else "provider"
    if _has_word(name, _AUTHENTICATION_WORDS):
        return "authentication"
    if name.endswith(("notfound", "expired")):
        return "not_found"
    if _has_word(name, _SERVER_WORDS):
        return "server"
    return None


def _has_word(name: str, words: str) -> bool:
    return any(word in name for word in words.split())


def _kind_of_status(status_code: int | None, *, weak: bool) -> ErrorKind | None:
    """The kind of an HTTP status; a status that only says "refused" counts if `weak` is set.

    One answer may have errors of several tasks, so 400 says less than a code that begins with
    "invalid" or "missing".
    """
    if status_code is None or status_code < 400:
        return None
    kind: ErrorKind | None = _STATUS.get(status_code)
    if kind is None:
        kind = "server" if status_code >= 500 else "validation"
    return kind if weak or kind != "validation" else None
