"""Which of several arrays in a file is the scan: the one that is named, else the only one of three axes."""

from collections.abc import Mapping

from extract.errors import RefusedScan
from extract.readers.contract import Request

Shape = tuple[int, ...]
SHOWN = 8


def choose_array(shapes: Mapping[str, Shape], request: Request, kind: str) -> str:
    """Give the name of the array to read. shapes: of all arrays, by name. Raises: RefusedScan, naming what is there."""
    wanted, source = request.options.array, request.source
    if wanted is not None:
        if wanted not in shapes:
            raise RefusedScan(f"{source}: expected the array {wanted!r} (--array), the {kind} holds {_list(shapes)}")
        return wanted
    three = [name for name, shape in shapes.items() if len(shape) == 3]
    if len(three) == 1:
        return three[0]
    four = [name for name, shape in shapes.items() if len(shape) == 4]
    if not three and len(four) == 1:
        return four[0]
    what = "no array of three axes" if not three else f"{len(three)} arrays of three axes"
    raise RefusedScan(f"{source}: the {kind} holds {what} ({_list(shapes)}): name the scan with --array")


def _list(shapes: Mapping[str, Shape]) -> str:
    shown = [f"{_printable(name)} {list(shape)}" for name, shape in list(shapes.items())[:SHOWN]]
    return ", ".join(shown) + (" ..." if len(shapes) > SHOWN else "") or "nothing"


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:40]
