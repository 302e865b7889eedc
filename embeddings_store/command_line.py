"""A verb's frozen dataclass is its command line and its Python call: each option is written once, as a field.

A field ``Annotated[type, typer.Option(help=...)]`` is an option, with typer.Argument an argument; ``Text(read)`` in
it says how the option's text becomes the field's value. Groups that several verbs share are dataclasses of their own,
which a verb's class inherits. What is no choice or out of range is refused for the command line and Python alike.
"""

import inspect
import sys
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo, ParameterInfo

from embeddings_store.addresses import require_plain_word
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import json_on_stdout

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Text:
    """How the text of an option is read; default: the field's default as one would type it.

    ``read`` raises UsageError, naming the option.
    """

    read: Callable[[str], Any]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Former:
    """A name that an option had before: it still works, and no help shows it."""

    flag: str


@dataclass(frozen=True, slots=True)
class _Option:
    """What a field says of its option: the type without None, how its text is read, and typer's words."""

    name: str
    kind: Any
    info: ParameterInfo
    text: Text | None
    default: Any
    former: str | None = None

    @property
    def flag(self) -> str:
        return next((name for name in _names(self.info) if name.startswith("--")), f"--{self.name.replace('_', '-')}")

    @property
    def repeatable(self) -> bool:
        return get_origin(self.kind) is tuple and self.text is None


class Options:
    """What every verb's dataclass inherits: values are checked in one place, whoever made the object."""

    def __post_init__(self) -> None:
        for option in _options_of(type(self)):
            value = getattr(self, option.name)
            _require_plain(option, value)
            if option.repeatable:
                object.__setattr__(self, option.name, several(value))
            else:
                _check(option, value)


def several(value: Any) -> tuple[Any, ...]:
    """Return what a repeatable option was given as a tuple: none, one or several."""
    return () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)


def parse_words(made: type[T], /, **words: Any) -> T:
    """Make a verb's options from what was typed: text is read, lists become tuples, None means not typed.

    words: by the name of the field, or of the option with _ for -. Raises UsageError, naming the option.

    Example: parse_words(ExtractOptions, bucket="b", store=["s"], encoder=["random:tiny"], layers="3,last").
    """
    options, read = {one.name: one for one in _options_of(made)}, {}
    called = {one.flag.lstrip("-").replace("-", "_"): one.name for one in options.values()}
    fields_of_made = {one.name for one in fields(made)}  # type: ignore[arg-type] # a verb's dataclass
    for word, value in words.items():
        name = word if word in fields_of_made else called.get(word, "")
        if not name or name in read:
            near = get_close_matches(word, called, n=1, cutoff=0.0)[0]
            why = f"the same as {name}" if name else f"the nearest option is {near}"
            raise UsageError(f"{word}: expected an option of {made.__name__.removesuffix('Options').lower()}, {why}")
        if value is not None:
            if name in options:
                _require_plain(options[name], value)
            read[name] = _read_word(options.get(name), value)
    if missing := [one.name for one in options.values() if one.default is MISSING and one.name not in read]:
        raise UsageError(f"{missing[0]}: expected a value, got none")
    return made(**read)


def _require_plain(option: "_Option", value: Any) -> None:
    for word in several(value):
        require_plain_word(word, option.flag, UsageError)


def _read_word(option: "_Option | None", value: Any) -> Any:
    """Read what was given for one option as its field holds it."""
    if option and option.text and isinstance(value, str):
        return option.text.read(value)
    if isinstance(value, list):
        return several(value)
    return Path(value) if option and option.kind is Path and isinstance(value, str) else value


def verb(app: typer.Typer, name: str | None = None, *, main: bool = False) -> Callable[[Any], Any]:
    """Add a function to a command line: the fields of its first parameter, a dataclass, become its options.

    main: what the program does without a sub-command. Further parameters of the function are options as typer knows
    them. The function itself is returned unchanged.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        if main:
            app.callback(invoke_without_command=True)(_unfold(function, main=True))
        else:
            app.command(name)(_unfold(function, main=False))
        return function

    return register


def print_version(asked: bool) -> None:
    """Print the version and leave, if asked."""
    if asked:
        print(f"octprobe {version('octprobe')}", file=sys.stdout)  # noqa: T201 - the answer of --version
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
]


def _unfold(function: Callable[..., None], *, main: bool) -> Callable[..., None]:
    """Make the function that typer sees: one parameter for each field and each further parameter."""
    first, *further = inspect.signature(function).parameters.values()
    hints = get_type_hints(function, include_extras=True)
    made, options = hints[first.name], _options_of(hints[first.name])

    @wraps(function)
    def called(context: Any, **given: Any) -> None:
        if main and context.invoked_subcommand is not None:
            return
        words = {one.name: given.pop(one.name) for one in options}
        before = {one.name: given.pop(_former_name(one)) for one in options if one.former}
        words |= {name: value for name, value in before.items() if words[name] is None}
        if missing := [one.flag for one in options if one.default is MISSING and words[one.name] is None]:
            raise UsageError(f"{missing[0]} is missing; {context.command_path} --help shows what each option means")
        if "command" in made.__dataclass_fields__:
            words["command"] = (Path(sys.argv[0]).name, *sys.argv[1:])
        with json_on_stdout(bool(given.get("json"))):
            function(parse_words(made, **words), **{one.name: given[one.name] for one in further})

    parameters = [_parameter("context", typer.Context, inspect.Parameter.empty)]
    parameters += [_as_parameter(option, main=main) for option in options]
    parameters += [_former_parameter(one) for one in options if one.former]
    parameters += [_parameter(one.name, hints[one.name], one.default) for one in further]
    parameters.append(_parameter("version", Version, False))
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # how inspect documents it
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _as_parameter(option: _Option, *, main: bool) -> inspect.Parameter:
    """Make the parameter that typer reads an option from, as text where the field has a reader."""
    info = copy(option.info)
    if isinstance(info, OptionInfo):
        info.default, info.param_decls = ..., _names(info) or (option.flag,)
    kind: Any = (
        str if option.text else GenericAlias(list, get_args(option.kind)[:1]) if option.repeatable else option.kind
    )
    default = option.text.default if option.text else None if option.repeatable else option.default
    if option.default is not MISSING:
        return _parameter(option.name, Annotated[kind if default is not None else kind | None, info], default)
    return _parameter(option.name, Annotated[kind | None if main else kind, info], None if main else ...)


def _former_name(option: _Option) -> str:
    return f"former_{option.name}"


def _former_parameter(option: _Option) -> inspect.Parameter:
    info = typer.Option(option.former, hidden=True, help=f"Former name of {option.flag}.")
    return _parameter(_former_name(option), Annotated[option.kind | None, info], None)


def _options_of(made: Any) -> tuple[_Option, ...]:
    return _fields_of(made)


@cache
def _fields_of(made: Any) -> tuple[_Option, ...]:
    found: list[_Option] = []
    hints = get_type_hints(made, include_extras=True)
    for field in fields(made):
        kind, *notes = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else [None]
        info = next((note for note in notes if isinstance(note, ParameterInfo)), None)
        if info is None:
            continue
        text = next((note for note in notes if isinstance(note, Text)), None)
        former = next((note.flag for note in notes if isinstance(note, Former)), None)
        found.append(_Option(field.name, _kind(kind), info, text, field.default, former))
    return tuple(sorted(found, key=lambda option: option.default is not MISSING))  # what is needed stands first


def _kind(annotation: Any) -> Any:
    """Return the type without None; of a repeatable option, which takes a single value too, the tuple."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    parts = [part for part in get_args(annotation) if part is not NoneType]
    return next((part for part in parts if get_origin(part) is tuple), parts[0])


def _names(info: ParameterInfo) -> tuple[str, ...]:
    """Return the names that typer.Option was given; in Annotated, the first one lies in ``default``."""
    first = () if info.default is ... else (info.default,)
    return (*first, *(info.param_decls or ()))


def _check(option: _Option, value: Any) -> None:
    """Refuse what is no choice or out of range, as the command line does. Raises UsageError."""
    if value is None or option.text is not None:
        return
    if get_origin(option.kind) is Literal and value not in get_args(option.kind):
        raise UsageError(f"{option.flag}: expected {_either(get_args(option.kind))}, got {value!r}")
    low, high = option.info.min, option.info.max
    if low is None and high is None:
        return
    if isinstance(value, str):
        raise UsageError(f"{option.flag}: expected a number, got {value!r}")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"from {low:g}" if high is None else f"from {low or 0:g} to {high:g}"
        raise UsageError(f"{option.flag}: expected a number {bounds}, got {value!r}")


def _either(choices: tuple[Any, ...]) -> str:
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last
