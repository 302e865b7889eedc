"""Read a trainer's pickle without running anything that it names.

A pickle is a program: it names globals and calls them. Here a name gives one of three things: a tensor rebuilder that
only writes down where the numbers lie (TensorRef), a constant such as a dtype, or an inert class that keeps what it was
given and does nothing. Nothing is ever imported on the file's word. docs/house.md says why torch's own loader
(``weights_only``) is not used.
"""

import io
import pickle
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch

MOST = 1 << 62
"""No size, offset or count of a file is larger: such numbers cannot even be printed without end."""

DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip


class Inert:
    """Stands for an object of a foreign class: remembers its name, arguments and state, and does nothing.

    Every class here has __setstate__, so that BUILD can change neither the class nor a global.
    """

    __slots__ = ("arguments", "state")
    qualified_name = ""
    arguments: tuple[object, ...]
    state: object

    def __new__(cls, *arguments: object, **named: object) -> "Inert":
        """Take any arguments; named ones exist only in newer pickle protocols."""
        made = object.__new__(cls)
        made.arguments = (*arguments, *named.values())
        made.state = None
        return made

    def __init__(self, *arguments: object, **named: object) -> None:
        """Accept what __new__ accepted."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Drop the item of a foreign mapping."""

    def append(self, item: object) -> None:
        """Drop the item of a foreign list."""

    def extend(self, items: object) -> None:
        """Drop the items of a foreign list."""


class PlainDict(dict[Any, Any]):
    """An OrderedDict or its like; attributes such as a state dict's _metadata are dropped."""

    __slots__ = ()

    def __init__(self, items: Iterable[Any] = ()) -> None:
        """Take pairs, whose keys must be plain, or a dictionary."""
        pairs = [(key, value) for key, value in (items.items() if isinstance(items, dict) else items)]
        _require_plain_keys([key for key, _ in pairs])
        super().__init__(pairs)

    def __setstate__(self, state: object) -> None:
        """Drop attributes."""


class Attributes(PlainDict):
    """An argparse.Namespace or its like: what was set on it, by name."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Take the attributes."""
        if isinstance(state, dict):
            self.update(state)


class DefaultDict(PlainDict):
    """A defaultdict of the file; what makes its missing items is dropped."""

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        """Start empty: the items come later."""


class _Fixed:
    """Made once; the file cannot change it by BUILD."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError(f"the file tries to change a {type(self).__name__.strip('_')}")


@dataclass(frozen=True)
class StorageRef(_Fixed):
    """One storage record of the archive: its key, what it holds, and how many elements."""

    key: str
    dtype: torch.dtype
    element_count: int


@dataclass(frozen=True)
class TensorRef(_Fixed):
    """Where a tensor lies: offset and strides in elements of ``stored_dtype`` inside one storage."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    stored_dtype: torch.dtype
    dtype: torch.dtype


class _Rebuild(_Fixed):
    """A callable for REDUCE."""

    __slots__ = ("_rebuild",)

    def __init__(self, rebuild: Callable[..., object]) -> None:
        self._rebuild = rebuild

    def __call__(self, *arguments: object) -> object:
        return self._rebuild(*arguments)


def read_pickle(data: bytes) -> tuple[Any, tuple[str, ...]]:
    """Give the pickled object with TensorRef and Inert in place of tensors and foreign objects.

    Also gives the sorted names of the foreign globals. Raises pickle.UnpicklingError where the bytes are no pickle.
    """
    unpickler = _Unpickler(io.BytesIO(data))
    try:
        return unpickler.load(), tuple(sorted(unpickler.inert))
    except (
        ValueError, TypeError, AttributeError, LookupError, EOFError, OverflowError, MemoryError, RecursionError,
        struct.error,
    ) as error:  # fmt: skip
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None


class _Unpickler(pickle._Unpickler):
    """Resolves names by allow-list; every other name becomes an inert class.

    The one in Python, as the one in C takes any memory, and hashes any key, that a file asks for.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.inert: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Give the harmless stand-in of a global; nothing is imported."""
        full_name = f"{module}.{name}"
        if full_name in _KNOWN:
            return _KNOWN[full_name]
        if full_name not in self.inert:
            body = {"__slots__": (), "qualified_name": full_name}
            self.inert[full_name] = type("Inert", (Inert,), body)
        return self.inert[full_name]

    def persistent_load(self, pid: Any) -> "StorageRef | Inert":
        """Write down a storage; its numbers are read only when asked for, those of an unknown kind never."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(count)) if 0 <= count < MOST:
                return StorageRef(key, dtype, count)
            case ("storage", type() as unknown, str(), _, int()) if issubclass(unknown, Inert):
                return unknown()
        raise pickle.UnpicklingError("a storage is described in a way that torch.save does not write")


def _with_plain_keys(code: bytes, keys: Callable[[list[Any]], list[Any]]) -> None:
    """Look at the keys on the stack before pickle hashes them."""
    load = pickle._Unpickler.dispatch[code[0]]

    def checked(unpickler: Any) -> None:
        _require_plain_keys(keys(unpickler.stack))
        load(unpickler)

    _Unpickler.dispatch[code[0]] = checked


_with_plain_keys(pickle.SETITEM, lambda stack: stack[-2:-1])
for _code in (pickle.SETITEMS, pickle.DICT):
    _with_plain_keys(_code, lambda stack: stack[::2])
for _code in (pickle.ADDITEMS, pickle.FROZENSET):
    _with_plain_keys(_code, lambda stack: stack)


def _require_plain_keys(keys: Iterable[object]) -> None:
    """Refuse keys that hold others deeply: hashing or printing one may take for ever, or the whole stack."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, tuple | frozenset) or (isinstance(part, int) and abs(part) > MOST) for part in parts):
            raise pickle.UnpicklingError("a key is no plain value")


def _tensor(storage: object, offset: object, shape: object, strides: object, dtype: torch.dtype | None) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise pickle.UnpicklingError("a tensor is described in a way that torch.save does not write")
    (offset,), shape, strides = _sizes((offset,)), _sizes(shape), _sizes(strides)
    if len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor has another number of strides than axes")
    dtype = dtype or storage.dtype
    return TensorRef(storage, offset, shape, strides, dtype, dtype)


def _sizes(sizes: object) -> tuple[int, ...]:
    if not isinstance(sizes, tuple) or not all(isinstance(size, int) and 0 <= size < MOST for size in sizes):
        raise pickle.UnpicklingError("a tensor has an offset, shape or strides that are no natural numbers")
    return sizes


def _tensor_v2(storage: object, offset: object, shape: object, strides: object, *_: object) -> TensorRef:
    return _tensor(storage, offset, shape, strides, None)


def _tensor_v3(*arguments: object) -> TensorRef:
    """Take storage, offset, shape, strides, two that do not matter, and the dtype."""
    dtype = arguments[6]
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor has a dtype that torch does not know")
    return _tensor(arguments[0], arguments[1], arguments[2], arguments[3], dtype)


def _device_tensor(tensor: object, dtype: object, *_: object) -> object:
    """Take a tensor that lay on an accelerator (XLA): its numbers were saved from the CPU, as ``dtype``."""
    if not isinstance(tensor, TensorRef) or not isinstance(dtype, torch.dtype):
        return tensor
    return TensorRef(tensor.storage, tensor.offset, tensor.shape, tensor.strides, tensor.stored_dtype, dtype)


def _latin_1(text: object, encoding: object = "latin1") -> bytes:
    """Give bytes as older pickle protocols write them; no other codec is looked up."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes are described in a way that pickle does not write")
    return text.encode("latin1")


def number_from_bytes(dtype: object, data: object) -> bool | int | float | None:
    """Read a number of NumPy from its bytes; one of another kind (text, a date) stays None.

    dtype: an inert numpy.dtype, whose code is its first argument, and its byte order part of its state.
    """
    if not isinstance(dtype, Inert) or dtype.qualified_name != "numpy.dtype" or not isinstance(data, bytes):
        return None
    code, order = dtype.arguments[:1], dtype.state[1:2] if isinstance(dtype.state, tuple) else ()
    if not code or not isinstance(code[0], str) or not _PLAIN_DTYPE.fullmatch(code[0]):
        return None
    plain = np.dtype(code[0]).newbyteorder(order[0] if order in (("<",), (">",)) else "=")
    if len(data) != plain.itemsize:
        raise pickle.UnpicklingError("a number of NumPy has another length than its type")
    number: bool | int | float = np.frombuffer(data, plain)[0].item()
    return number


def _from_type(rebuild: object, _type: object, arguments: object, _state: object) -> object:
    if not isinstance(rebuild, _Rebuild) or not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("a tensor subclass is described in a way that torch.save does not write")
    return rebuild(*arguments)


_PLAIN_DTYPE = re.compile("b1|[iu][1248]|f[248]")

_KNOWN: dict[str, object] = {
    "collections.OrderedDict": PlainDict,
    "collections.defaultdict": DefaultDict,
    "collections.Counter": PlainDict,
    "argparse.Namespace": Attributes,
    "types.SimpleNamespace": Attributes,
    "_codecs.encode": _Rebuild(_latin_1),
    "numpy.core.multiarray.scalar": _Rebuild(number_from_bytes),
    "numpy._core.multiarray.scalar": _Rebuild(number_from_bytes),
    "torch.Size": _Rebuild(tuple),
    "torch._utils._rebuild_tensor_v2": _Rebuild(_tensor_v2),
    "torch._utils._rebuild_tensor_v3": _Rebuild(_tensor_v3),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _Rebuild(_device_tensor),
    "torch._utils._rebuild_parameter": _Rebuild(lambda tensor, *_: tensor),
    "torch._utils._rebuild_parameter_with_state": _Rebuild(lambda tensor, *_: tensor),
    "torch._tensor._rebuild_from_type_v2": _Rebuild(_from_type),
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
    **{f"torch.storage.{name}": dtype for name, dtype in DTYPES.items()},
    **{str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)},
}
