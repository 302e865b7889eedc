"""What trainers save beside tensors every day (NumPy, paths, dates, random states): no alarm, and numbers are read."""

import re

from extract.encoder.unpickle import MOST, Inert, number_from_bytes

_BUILTIN = "bool|bytearray|bytes|complex|dict|float|frozenset|int|list|long|object|range|set|slice|str|tuple|unicode"
_NUMPY_TYPE = (
    r"dtype|ndarray|bool_?|u?int\d+|float\d+|complex\d+|longdouble|longlong|str_|bytes_|datetime64|timedelta64"
)
HARMLESS = re.compile(
    "|".join(
        (
            r"omegaconf\..*|typing\..*",
            rf"(__builtin__|builtins)\.({_BUILTIN})",
            r"(copy_reg|copyreg)\._reconstructor",
            r"collections\.deque",
            rf"numpy\.({_NUMPY_TYPE})|numpy\.dtypes\.\w+DType",
            r"numpy\.(core|_core)\.(multiarray\._reconstruct|numeric\._frombuffer)",
            r"numpy\.random\._pickle\.(__\w+_ctor)|numpy\.random\.mtrand\.RandomState",
            r"numpy\.random\._(mt19937|pcg64|philox|sfc64)\.\w+|numpy\.random\._generator\.Generator",
            r"numpy\.random\.bit_generator\.(SeedSequence|__pyx_unpickle_SeedSequence)|random\.Random",
            r"pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path",
            r"datetime\.(datetime|date|time|timedelta|timezone)|zoneinfo\.ZoneInfo",
            r"uuid\.(UUID|SafeUUID)|(_?decimal)\.Decimal|fractions\.Fraction",
            r"enum\.\w+|signal\.Signals",
            r"torch\.(device|layout|memory_format|Generator|Tensor|\w+Storage)|torch\._C\.Generator",
            r"torch\._utils\._rebuild_\w+|torch\.serialization\._get_layout|torch\.per_(tensor|channel)_affine",
            r"torch\.nn\.parameter\.Parameter|torch\.torch_version\.TorchVersion",
        )
    )
)
"""Names of classes that hold values and do nothing; any other foreign name is reported (all are inert)."""


def is_harmless(value: Inert) -> bool:
    """Tell whether an inert object stands for one of these."""
    return HARMLESS.fullmatch(value.qualified_name) is not None


def plain_number(value: object) -> int | float | None:
    """Give a Python number, or the only element of an array of NumPy; None for anything else."""
    if isinstance(value, Inert):
        value = _only_element(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, float) or abs(value) < MOST else None


def _only_element(array: Inert) -> bool | int | float | None:
    """Read an array of shape () or (1,): NumPy writes it into its state, or (pickle protocol 5) its arguments."""
    match (array.qualified_name.rpartition(".")[2], array.arguments, array.state):
        case ("_reconstruct", _, (_, () | (1,), dtype, _, data)):
            return number_from_bytes(dtype, data)
        case ("_frombuffer", (bytes() | bytearray() as data, dtype, () | (1,), _), _):
            return number_from_bytes(dtype, bytes(data))
    return None
