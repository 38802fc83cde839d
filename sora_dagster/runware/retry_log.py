"""Logs the retries of this package as sentences."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from stamina.instrumentation import (
    RetryDetails,
    RetryHook,
    get_on_retry_hooks,
    set_on_retry_hooks,
)

_log = logging.getLogger(__name__)
_DEFAULT_LOGS = ("stamina.instrumentation._logging", "stamina.instrumentation._structlog")
_PACKAGE = __name__.partition(".")[0]


def log_retries_as_sentences() -> None:
    """Log retries after errors of this package as sentences; other retries stay as they are.

    stamina's hooks are global. Its default ones print names and arguments of calls.
    """
    hooks = get_on_retry_hooks()
    if _log_retry not in hooks:
        set_on_retry_hooks(
            [
                _log_retry,
                *(_OtherRetries(hook) if _is_default_log(hook) else hook for hook in hooks),
            ]
        )


def _log_retry(details: RetryDetails) -> None:
    if _is_own(details.caused_by):
        _log.info("%s Trying again in %.1f s.", _sentence(details.caused_by), details.wait_for)


class _OtherRetries:
    """A hook for retries after errors of others.

    Arguments:
        hook: the hook.
    """

    def __init__(self, hook: RetryHook) -> None:
        self._hook = hook

    def __call__(self, details: RetryDetails) -> AbstractContextManager[None] | None:
        return None if _is_own(details.caused_by) else self._hook(details)


def _is_default_log(hook: object) -> bool:
    return getattr(hook, "__module__", None) in _DEFAULT_LOGS


def _is_own(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == _PACKAGE


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip('.')}."
