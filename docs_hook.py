"""Hook of MkDocs: parts of pages that are made from the code, and links out of docs/."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import click
import griffe

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+|schemas/[^)#]+)\)")


class Examples(griffe.Extension):
    """Shows an `Example:` of a docstring as code, like `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    if "<!-- settings -->" in markdown:
        markdown = markdown.replace("<!-- settings -->", settings_page_table())
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands_text())
    if "<!-- python -->" in markdown:
        markdown = markdown.replace("<!-- python -->", python_names())
    folder = posixpath.dirname(page.file.src_uri)
    return _OUTSIDE.sub(lambda match: _outside(match, folder), markdown)


def _outside(match: re.Match[str], folder: str) -> str:
    """A link to a file that is not part of the site, as the path in the repository."""
    target = posixpath.normpath(posixpath.join("docs", folder, match[2]))
    if target.startswith("docs/") and not target.startswith("docs/schemas/"):
        return match[0]
    return f"{match[1]} (`{target}`)" if match[1] != target else f"`{target}`"


def settings_page_table() -> str:
    """The table of settings."""
    from sora_dagster.setting_declarations import settings_table

    rows = [f"| `{v.name}` | {v.description} | {v.default} |" for v in settings_table()]
    return "\n".join(["| variable | what it sets | default |", "|---|---|---|", *rows])


def commands_text() -> str:
    """The help of every command."""
    from sora_dagster.cli.main import cli

    return "\n".join(_help_of(cli, click.Context(cli, info_name="sora-dagster")))


def _help_of(command: click.Command, context: click.Context) -> list[str]:
    lines = [f"## {context.command_path}", "", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.commands[name]
            lines += _help_of(child, click.Context(child, info_name=name, parent=context))
    return lines


def python_names() -> str:
    """A reference to each public name, where it is defined."""
    import sora_dagster

    lines = []
    for name in sora_dagster.__all__:
        value = getattr(sora_dagster, name)
        lines.append(f"::: {value.__module__}.{value.__name__}\n")
    return "\n".join(lines)
