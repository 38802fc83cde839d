"""Hook of MkDocs: parts of pages that are made from the code, and links out of docs/."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

import click
import griffe

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+|schemas/[^)#]+)(?:#[^)]*)?\)")


class Examples(griffe.Extension):
    """Shows an `Example:` of a docstring as code, like `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    if "<!-- manifest -->" in markdown:
        markdown = markdown.replace("<!-- manifest -->", manifest_tables())
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


def manifest_tables() -> str:
    """The fields of a manifest, from its JSON schema."""
    [path] = (Path(__file__).parent / "docs" / "schemas").glob("clip.v*.schema.json")
    schema = json.loads(path.read_text(encoding="utf-8"))
    parts = {"clip.json": schema, **schema["$defs"]}
    return "\n".join(_fields_of(name, part) for name, part in parts.items())


def _fields_of(name: str, part: dict[str, Any]) -> str:
    if "properties" not in part:
        return ""  # any JSON value
    lines = [f"## `{name}`", "", part.get("description", "").partition("\n")[0], ""]
    lines += ["| field | type | description |", "|---|---|---|"]
    for field, value in part["properties"].items():
        text = value.get("description", "").replace("|", "\\|")
        lines.append(f"| `{field}` | {_type_of(value)} | {text} |")
    return "\n".join([*lines, ""])


def _type_of(value: dict[str, Any]) -> str:
    if value.get("$ref") == "#/$defs/JsonValue":
        return "JSON"
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(_type_of(option) for option in value["anyOf"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return " or ".join(f"`{item}`" for item in value["enum"])
    if value.get("type") == "array":
        return f"list of {_type_of(value['items'])}" if value.get("items") else "list"
    return str(value.get("format") or value.get("type", "any"))


def commands_text() -> str:
    """The help of every command."""
    from sora_dagster.cli.main import cli

    # With the settings: click keeps the options for help that a command is first asked for.
    context = click.Context(cli, info_name="sora-dagster", **cli.context_settings)
    return "\n".join(_help_of(cli, context))


def _help_of(command: click.Command, context: click.Context) -> list[str]:
    if context.command_path == "sora-dagster sandbox":
        from sora_dagster.sandbox.command import sandbox_command

        command = sandbox_command  # the one that has the options
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
