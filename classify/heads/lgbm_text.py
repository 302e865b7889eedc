"""LightGBM's text is input: its parser trusts every number in it, and may end the process or read foreign memory.

So the text is checked here to the last child of the last tree, and only what was checked is handed on. Format:
LightGBM 4, gbdt_model_text.cpp and Tree::ToString.
"""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64

OBJECTIVE = "objective"
HEADER = (
    "version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", OBJECTIVE, "feature_names",
    "feature_infos", "tree_sizes",
)  # fmt: skip
WHOLE = ("split_feature", "decision_type", "left_child", "right_child", "internal_count", "leaf_count")
OF_SPLITS = (
    "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child", "internal_value",
    "internal_weight", "internal_count",
)  # fmt: skip
OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
OF_TREE = ("num_leaves", "num_cat", "is_linear", "shrinkage")
DECISIONS = (0, 2, 4, 6, 8, 10)  # a number against a threshold; bit 1: where a missing one goes, bits 2 and 3: what is
END, LAST = "end of trees", "pandas_categorical:null"
MOST_LEAVES = 1 << 16
_WHOLE = re.compile(r"-?\d{1,9}(?: -?\d{1,9})*")
_REAL = re.compile(r"-?\d[-+.e\d]*(?: -?\d[-+.e\d]*)*")


def check_trees(text: str, *, classes: int, features: int, most_rounds: int, ordered: bool = False) -> str:
    """Return header and trees of a model's text, and no more of it.

    classes: 1 of a number. most_rounds: each has a tree per class. ordered: one tree for all classes, fitted by a loss
    that LightGBM has no name for. Raises: ValueError where anything is not as
    LightGBM writes it: other fields or lengths, features, children, leaves or counts that cannot be.
    """
    try:
        return _checked(text, 1 if ordered else classes, features, most_rounds, ordered=ordered)
    except ValueError as error:
        raise ValueError(f"expected whole trees of LightGBM, got a text that was cut or changed: {error}") from None


def _checked(text: str, classes: int, features: int, most_rounds: int, *, ordered: bool) -> str:
    head, found, _ = text.partition("\n\n")
    if not (text.isascii() and found and text.rstrip().endswith(LAST)):
        raise ValueError("it has no end")
    kind, *lines = head.split("\n")
    header = _fields(lines, tuple(name for name in HEADER if name != OBJECTIVE or not ordered))
    wanted = {
        "num_class": str(classes), "num_tree_per_iteration": str(classes), "max_feature_idx": str(features - 1),
    }  # fmt: skip
    if not ordered:
        wanted[OBJECTIVE] = "regression" if classes == 1 else f"multiclass num_class:{classes}"
    if unlike := [name for name, value in wanted.items() if header[name] != value]:
        raise ValueError(f"{unlike[0]}: expected {wanted[unlike[0]]!r}")
    if kind != "tree" or any(len(header[name].split(" ")) != features for name in ("feature_names", "feature_infos")):
        raise ValueError(f"expected {features} features")
    sizes = _whole("tree_sizes", header["tree_sizes"], len(header["tree_sizes"].split(" ")))
    if len(sizes) % classes or len(sizes) > classes * most_rounds or sizes.min() < 1:
        raise ValueError(f"expected up to {most_rounds} trees per class, got {len(sizes)} in all")
    start = len(head) + len(found)
    for number, size in enumerate(sizes.tolist()):
        _check_tree(text[start : start + size], number, features)
        start += size
    if not text[start:].startswith(f"{END}\n"):
        raise ValueError("the trees are not as long as it says")
    return f"{text[:start]}{END}\n"


def _check_tree(block: str, number: int, features: int) -> None:
    """Check one tree. Raises: ValueError."""
    name, *lines = block.rstrip("\n").split("\n")
    if name != f"Tree={number}" or not block.endswith("\n\n\n"):
        raise ValueError(f"expected tree {number}")
    fields = _fields(lines, (*OF_SPLITS, *OF_LEAVES, *OF_TREE))
    leaves = int(_whole("num_leaves", fields["num_leaves"], 1)[0])
    if not 1 <= leaves <= MOST_LEAVES or (fields["num_cat"], fields["is_linear"]) != ("0", "0"):
        raise ValueError(f"tree {number}: expected 1 to {MOST_LEAVES} leaves, no categories, no linear ones")
    if leaves == 1:  # of a tree without a split, some are left empty
        fields = {name: value or "0" if name in OF_LEAVES else value for name, value in fields.items()}
    for names, length in ((OF_SPLITS, leaves - 1), (OF_LEAVES, leaves), (("shrinkage",), 1)):
        for one in names:
            (_whole if one in WHOLE else _real)(f"tree {number}, {one}", fields[one], length)
    split, decision = (_whole(one, fields[one], leaves - 1) for one in ("split_feature", "decision_type"))
    if ((split < 0) | (split >= features)).any() or not np.isin(decision, DECISIONS).all():
        raise ValueError(f"tree {number}: a split on no feature")
    left, right = (_whole(one, fields[one], leaves - 1) for one in ("left_child", "right_child"))
    _check_children(left, right, number)


def _check_children(left: Int64[np.ndarray, " splits"], right: Int64[np.ndarray, " splits"], number: int) -> None:
    """Every split but the first, and every leaf, is the child of one split, which was made before it: so no circle."""
    splits = len(left)
    children = np.concatenate([left, right])
    all_of_them = np.concatenate([-1 - np.arange(splits + 1), np.arange(1, splits)]) if splits else children
    made_before = np.tile(np.arange(splits), 2)
    if (
        not np.array_equal(np.sort(children), np.sort(all_of_them))
        or (children[children >= 0] <= made_before[children >= 0]).any()
    ):
        raise ValueError(f"tree {number}: its splits and leaves are no tree")


def _fields(lines: list[str], names: tuple[str, ...]) -> Mapping[str, str]:
    """Read NAME=VALUE, each name once. Raises: ValueError."""
    pairs = [line.split("=", 1) for line in lines]
    if sorted(pair[0] for pair in pairs) != sorted(names) or any(len(pair) != 2 for pair in pairs):
        raise ValueError("it has other fields")
    return {pair[0]: pair[1] for pair in pairs}


def _whole(name: str, value: str, length: int) -> Int64[np.ndarray, " n"]:
    return _numbers(name, value, length, _WHOLE).astype(np.int64)


def _real(name: str, value: str, length: int) -> Float64[np.ndarray, " n"]:
    return _numbers(name, value, length, _REAL)


def _numbers(name: str, value: str, length: int, form: re.Pattern[str]) -> Float64[np.ndarray, " n"]:
    parts = value.split(" ") if value else []
    if len(parts) != length or (value and not form.fullmatch(value)):
        raise ValueError(f"{name}: expected {length} numbers")
    found = np.array([float(part) for part in parts], dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite numbers")
    return found
