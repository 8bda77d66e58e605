"""Commands and Python functions."""

from __future__ import annotations

import inspect
from typing import Any

from soloatlas.tables import markdown_table as table


def commands() -> str:
    """Every command with its arguments and options, from click's own help."""
    import click

    from soloatlas.cli import cli

    parts = []
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name)
        usage = " ".join(["soloatlas", name, *command.collect_usage_pieces(context)])
        rows = [
            [f"`{record[0]}`", record[1]]
            for option in command.get_params(context)
            if (record := option.get_help_record(context)) and "--help" not in option.opts
        ]
        options = f"\n\n{table(['option', 'what it does'], rows)}" if rows else ""
        parts.append(
            f"### soloatlas {name}\n\n```text\n{usage}\n```\n\n{inspect.cleandoc(command.help or '')}{options}"
        )
    return "\n\n".join(parts)


def api() -> str:
    """The public names with signature and docstring."""
    import soloatlas

    parts = []
    for name in soloatlas.__all__:
        if name != "__version__":
            parts.append(_described(name, getattr(soloatlas, name)))
    return "\n\n".join(parts)


def _described(name: str, thing: Any) -> str:
    first, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
    lines = [f"### {name}", f"`soloatlas.{name}`, defined in `{thing.__module__}`."]
    if not (isinstance(thing, type) and issubclass(thing, Exception)):
        shown = inspect.signature(thing)
        given = [f"    {_parameter(parameter)}," for parameter in shown.parameters.values()]
        result = shown.return_annotation
        ending = f" -> {result}" if result not in (inspect.Signature.empty, None, "None") else ""
        lines.append("\n".join(["```text", f"{name}(", *given, f"){ending}", "```"]))
    lines.append(first.replace("\n", " "))
    if rest:
        lines.append(f"```text\n{rest}\n```")
    return "\n\n".join(lines)


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"
