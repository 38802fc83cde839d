"""Errors in the form that Runware reports them."""

from __future__ import annotations

from sora_dagster.runware.catalogue import VideoModel

_DOCUMENTATION = "https://runware.ai/docs"


class RefusedTaskError(Exception):
    """A task was refused or failed.

    Arguments:
        code: raw error code. Runware publishes no list of them; these follow the names that its
            official SDK maps to error classes.
        message: what is wrong and what is allowed.
        parameter: the field, dotted.
        documentation: address of a page about it.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        parameter: str | None = None,
        documentation: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.parameter = parameter
        self.documentation = documentation

    def to_wire(
        self, *, task_type: str | None = None, task_uuid: str | None = None
    ) -> dict[str, str]:
        """The error as an entry of `errors`."""
        fields = {
            "code": self.code,
            "message": self.message,
            "parameter": self.parameter,
            "taskType": task_type,
            "taskUUID": task_uuid,
            "documentation": self.documentation,
        }
        return {name: value for name, value in fields.items() if value is not None}


def parameter_page(entry: VideoModel, parameter: str) -> str:
    """Where a model's parameter is documented."""
    provider = entry.air.partition(":")[0]
    slug = f"{provider}-{entry.name}".lower().replace(" ", "-").replace(".", "-")
    return f"{_DOCUMENTATION}/models/{slug}#request-{parameter.replace('.', '-').lower()}"


ERRORS_PAGE = f"{_DOCUMENTATION}/models-api/errors"
