"""Holm's step-down adjustment: p-values of several questions, none of which may look significant by their number."""

from collections.abc import Mapping


def adjust_holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return adjusted p-values by name; below 0.05: shown at a family-wise error of 5 % (Holm, Scand J Stat 1979).

    >>> adjust_holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    found: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda one: p[one])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        found[name] = largest
    return {name: found[name] for name in p}
