"""Types of all signatures are checked in tests, and shapes where a signature names arrays; in production neither costs.

jaxtyping binds and checks every call twice, array or not, which was a third of the time of tests/classify/test_lock.py.
Here beartype alone checks what has no array, and jaxtyping adds its memory of axis names to what has.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import wraps
from inspect import isclass, isgeneratorfunction
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

_jaxtyped = jaxtyping.jaxtyped
_of_a_field = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))
"""Of a dataclass: what readers of files take for damage is a TypeError, as jaxtyping's is."""


def check_signatures(modules: Sequence[str]) -> None:
    """Check calls of every function of these modules, which are not yet imported."""
    jaxtyping.jaxtyped = _checked
    jaxtyping.install_import_hook(modules, "beartype.beartype")


def _checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(named: Any) -> Any:
        if "<locals>" in named.__qualname__:  # made, and so checked, anew at each call of what it stands in
            return named
        if is_dataclass(named) and not _is_hard(named.__init__):
            named.__init__ = decorate(named.__init__)
            return named
        if isclass(named) or _is_hard(named):
            return _jaxtyped(typechecker=typechecker)(named)
        found = (_of_a_field if named.__name__ == "__init__" else beartype)(named)
        return _remembering(found) if any(map(_is_array, _hints(named))) else found

    return decorate


def _remembering(checked: Any) -> Any:
    """Give axes of one name one length in each call, as jaxtyping does; no name here speaks of an argument."""
    if isinstance(checked, staticmethod | classmethod):
        return type(checked)(_remembering(checked.__func__))

    @wraps(checked)
    def remembering(*arguments: Any, **named: Any) -> Any:
        with _jaxtyped("context"):
            return checked(*arguments, **named)

    return remembering


def _is_hard(named: Any) -> bool:
    """A generator is checked late, among the axes of whoever asks it; jaxtyping passes over names it cannot find."""
    is_generator = isgeneratorfunction(getattr(named, "__func__", named))
    return is_generator or any(isinstance(part, str | ForwardRef) for part in _hints(named))


def _hints(named: Any) -> list[Any]:
    """Give all that the hints of a function are made of."""
    hints = getattr(getattr(named, "__func__", named), "__annotations__", {})
    return [part for hint in hints.values() for part in _parts(hint)]


def _parts(hint: Any) -> Iterator[Any]:
    """Give a hint and all that it is made of."""
    yield hint
    for part in hint if isinstance(hint, list) else get_args(hint):
        yield from _parts(part)


def _is_array(hint: Any) -> bool:
    return isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
