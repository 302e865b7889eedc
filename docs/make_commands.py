"""Write docs/commands.md from the commands themselves: python docs/make_commands.py. A test fails while it is stale."""

import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

PAGE = Path(__file__).parent / "commands.md"
INTRODUCTION = """# Commands

Every command with every option, as `--help` prints them; this page is generated from them
(`python docs/make_commands.py`). Results go to stdout, notes and progress to stderr; with `--json`, stdout is one JSON
object. Each program also has `--version`, `--install-completion` and `--show-completion`.

Exit codes: 0 done; 1 the run failed; 2 wrong usage; 3 done, but some volumes failed.
"""
EVERYWHERE = {"help", "version", "install_completion", "show_completion"}
HOUSE = {"extract", "classify", "finetune", "reports"}


def write_page() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    source = tomllib.loads((PAGE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    for name, place in sorted(source["project"]["scripts"].items()):
        module = place.partition(":")[0]
        if module.split(".")[0] in HOUSE:
            parts += _program(name, typer.main.get_command(import_module(module).app))
    return "\n".join(parts)


def _program(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}\n"
    yield from _command(command)
    for sub, inner in getattr(command, "commands", {}).items():
        yield f"### {name} {sub}\n"
        yield from _command(inner)


def _command(command: Any) -> Iterator[str]:
    paragraphs = [" ".join(one.split()) for one in inspect.cleandoc(command.help or "").split("\n\n")]
    for one in paragraphs:
        words = re.sub(r"(?<![\w`])(--[a-z][a-z-]*)", r"`\1`", one)
        yield f"```text\n{one.removeprefix('Example: ')}\n```\n" if one.startswith("Example: ") else f"{words}\n"
    shown = [one for one in command.params if one.name not in EVERYWHERE and not getattr(one, "hidden", False)]
    groups: dict[str, list[Any]] = {}
    for one in shown:
        groups.setdefault(getattr(one, "rich_help_panel", None) or "Options", []).append(one)
    for heading, options in groups.items():
        yield f"| {heading} | | default |\n| --- | --- | --- |"
        yield "\n".join(_line(one) for one in options) + "\n"


def _line(option: Any) -> str:
    is_argument = option.param_type_name == "argument"
    called = option.name.upper() if is_argument else ", ".join((*option.opts, *option.secondary_opts))
    text = " ".join((option.help or "").split()).replace("|", "\\|").replace("<", "\\<")
    choices = _choices(option)
    if not all(one in text for one in choices):
        text += f" One of {', '.join(choices)}."
    return f"| `{called}` | {text} | {_default(option)} |"


def _choices(option: Any) -> tuple[str, ...]:
    """Return what an option may be, by the type that typer was given."""
    if hasattr(option, "type_descriptor"):
        kind = option.type_descriptor.annotation
        return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
    return tuple(getattr(option.type, "choices", ()))  # typer before it had click within


def _default(option: Any) -> str:
    shown = getattr(option, "show_default", True)
    if option.required:
        return "needed"
    if isinstance(shown, str):
        return shown
    default = option.default
    if callable(default) or default is None or default is False or default in ("", (), []):
        return ""
    if isinstance(default, list | tuple):
        default = ",".join(map(str, default))
    return f"`{getattr(default, 'value', default)}`" if default is not True else "on"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
