"""Which commands and options the console scripts have, and which ones a piece of shell names."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import typer
from console_scripts import console_scripts

SEPARATORS = {"|", "||", "&&", ";", "&", "(", ")", ">", ">>", "<", "2>", "do", "done", "then"}


@dataclass(frozen=True)
class Script:
    """One command with its path ("classify", "probe"), and typer's object for it."""

    path: tuple[str, ...]
    command: Any

    @property
    def name(self) -> str:
        return " ".join(self.path)

    @property
    def options(self) -> set[str]:
        named = [*self.command.params, *self.command.get_params(_context(self.command))]
        return {word for one in named for word in (*one.opts, *one.secondary_opts) if word.startswith("-")}


@cache
def scripts() -> Mapping[str, Script]:
    """Every command of every console script, by its full name."""
    found: dict[str, Script] = {}
    for point in console_scripts():
        module = point.value.partition(":")[0]
        if module.split(".")[0] in {"extract", "classify", "finetune", "reports"}:
            root = typer.main.get_command(import_module(module).app)
            found |= {script.name: script for script in _walk(Script((point.name,), root))}
    return found


def named_options(shell: str) -> Iterator[tuple[str, str]]:
    """Give (command, option) for every option behind a console script in a piece of shell."""
    names = {name.split()[0] for name in scripts()}
    for words in _simple_commands(shell):
        where = next((at for at, word in enumerate(words) if word in names), None)
        if where is None:
            for word in words:  # a command inside an option of another program: --command="classify ..."
                if " " in word and any(name in word for name in names):
                    yield from named_options(re.sub(r"^--[\w-]+=", "", word))
            continue
        command, rest = _resolve(words[where:])
        yield from ((command, word.partition("=")[0]) for word in rest if re.match(r"--?[a-zA-Z]", word))


def _resolve(words: list[str]) -> tuple[str, list[str]]:
    name, rest = words[0], words[1:]
    while rest and f"{name} {rest[0]}" in scripts():
        name, rest = f"{name} {rest[0]}", rest[1:]
    return name, rest


def _simple_commands(shell: str) -> Iterator[list[str]]:
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word in SEPARATORS:
                yield words
                words = []
            else:
                words.append(word)
        yield words


def _walk(script: Script) -> Iterator[Script]:
    yield script
    for name, command in getattr(script.command, "commands", {}).items():
        yield from _walk(Script((*script.path, name), command))


def _context(command: Any) -> Any:
    return command.make_context("x", [], resilient_parsing=True)
