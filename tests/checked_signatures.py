"""Types of all signatures are checked in tests, and shapes where a signature names arrays; in production neither costs.

jaxtyping binds and checks every call twice, array or not, which was a third of the time of tests/classify/test_lock.py.
Here beartype alone
checks what has no array, and jaxtyping adds its memory of axis names to what has.
"""

from collections.abc import Callable, Iterator, Sequence
from inspect import isclass, isgeneratorfunction
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import beartype

_jaxtyped = jaxtyping.jaxtyped


def check_signatures(modules: Sequence[str]) -> None:
    """Check calls of every function of these modules, which are not yet imported."""
    jaxtyping.jaxtyped = _checked
    jaxtyping.install_import_hook(modules, "beartype.beartype")


def _checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(named: Any) -> Any:
        function = getattr(named, "__func__", named)
        parts = [part for hint in getattr(function, "__annotations__", {}).values() for part in _parts(hint)]
        # A generator is checked late, among the axes of whoever asks it; jaxtyping passes over names it cannot find.
        hard = isclass(named) or isgeneratorfunction(function) or any(isinstance(p, str | ForwardRef) for p in parts)
        if hard:
            return _jaxtyped(typechecker=typechecker)(named)
        found = beartype(named)
        return _jaxtyped(typechecker=None)(found) if any(map(_is_array, parts)) else found

    return decorate


def _parts(hint: Any) -> Iterator[Any]:
    """Give a hint and all that it is made of."""
    yield hint
    for part in hint if isinstance(hint, list) else get_args(hint):
        yield from _parts(part)


def _is_array(hint: Any) -> bool:
    return isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
