"""Errors in the form that Runware reports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sora_dagster.runware.catalogue import VideoModel

_DOCUMENTATION = "https://runware.ai/docs"


class RefusedTaskError(Exception):
    """A task was refused or failed.

    Arguments:
        code: raw error code. Runware publishes no list of them; these follow the names that its
            official SDK maps to error classes.
        message: what is wrong and what is allowed.
        parameter: the field, dotted; for a rule between fields, all of them.
        documentation: address of a page about it.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        parameter: str | list[str] | None = None,
        documentation: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.parameter = parameter
        self.documentation = documentation

    def to_wire(
        self, *, task_type: str | None = None, task_uuid: str | None = None
    ) -> dict[str, Any]:
        """The error as an entry of `errors`."""
        fields = {
            "code": self.code,
            "message": self.message,
            "parameter": self.parameter
            if isinstance(self.parameter, str | None)
            else [*self.parameter],
            "taskType": task_type,
            "taskUUID": task_uuid,
            "documentation": self.documentation,
        }
        return {name: value for name, value in fields.items() if value is not None}


def slug_of(entry: VideoModel) -> str:
    """The name of a model in the addresses of its pages: that of its source, or one like it."""
    _, is_page, slug = entry.source.partition("runware.ai/docs/models/")
    if is_page and slug.strip("/"):
        return slug.strip("/").partition("/")[0]
    creator = entry.air.partition(":")[0]
    return f"{creator}-{entry.name}".lower().replace(" ", "-").replace(".", "-")


def documentation_page(entry: VideoModel) -> str:
    """Where a model is documented."""
    return f"{_DOCUMENTATION}/models/{slug_of(entry)}"


def parameter_page(entry: VideoModel, parameter: str) -> str:
    """Where a model's parameter is documented."""
    return f"{documentation_page(entry)}#request-{parameter.replace('.', '-').lower()}"


def refusal(
    entry: VideoModel, code: str, parameter: str | Sequence[str], what: str
) -> RefusedTaskError:
    """The refusal of a field, or of several that a rule names together.

    Arguments:
        entry: the model.
        code: raw error code.
        parameter: the dotted field. Errors about a rule between fields name all of them in a list,
            as Runware's newest documentation says.
        what: what is wrong, as the rest of a sentence that begins with the fields.
    """
    names = [parameter] if isinstance(parameter, str) else [*parameter]
    return RefusedTaskError(
        code,
        f"{' and '.join(names)} {what}.",
        parameter=names[0] if len(names) == 1 else names,
        documentation=parameter_page(entry, names[0]),
    )


ERRORS_PAGE = f"{_DOCUMENTATION}/models-api/errors"
