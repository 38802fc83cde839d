"""Packages that only some features need, and the extras that install them."""

from __future__ import annotations

from importlib.util import find_spec

# Import names of what each extra of pyproject.toml adds.
EXTRAS = {
    "media": ("av", "numpy", "PIL"),
    "webhook": ("starlette", "uvicorn", "prometheus_client"),
    "viewer": ("starlette", "uvicorn"),
    "sandbox": ("starlette", "uvicorn", "av", "numpy", "PIL"),
    "ui": ("dagster_webserver",),
    "parquet": ("pyarrow",),
    "schema": ("jsonschema",),
    "reports": ("pyarrow", "matplotlib", "PIL"),
    "postgres": ("dagster_postgres", "psycopg2"),
}


class MissingExtraError(ImportError):
    """A feature needs packages that are not installed. The message says how to install them."""


def require_extras(feature: str, *extras: str) -> None:
    """Check that the packages of some extras are installed.

    Arguments:
        feature: what needs them, as the subject of a sentence: ``The demo``.
        extras: names of extras, as in ``pip install "sora-dagster[webhook]"``.

    Raises:
        MissingExtraError: if a package is missing.
    """
    missing = {
        extra: [name for name in EXTRAS[extra] if find_spec(name) is None] for extra in extras
    }
    packages = dict.fromkeys(name for names in missing.values() for name in names)
    if packages:
        needed = ",".join(extra for extra, names in missing.items() if names)
        raise MissingExtraError(
            f"{feature} needs {', '.join(packages)}. Install with: "
            f'pip install "sora-dagster[{needed}]"'
        )
