"""Which of this machine's devices a run uses: the options, and how their text is read."""

from typing import Annotated, Literal

import typer

from embeddings_store.command_line import Text
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import COMPUTING


def parse_gpus(text: str) -> int | tuple[int, ...] | None:
    """Read "all", "4" (so many) or "0,3" (these)."""
    numbers = text.split(",")
    if text == "all":
        return None
    if not all(one.isdecimal() for one in numbers) or len(set(numbers)) < len(numbers) or text == "0":
        raise UsageError(f"--gpus: expected all, a count such as 4, or numbers such as 0,3, got {text!r}")
    return int(text) if len(numbers) == 1 else tuple(map(int, numbers))


def parse_chips(text: str) -> int | None:
    """Read "all" or "4"."""
    if text != "all" and not (text.isdecimal() and int(text)):
        raise UsageError(f"--tpu-chips: expected all or a number from 1, got {text!r}")
    return None if text == "all" else int(text)


Gpus = Annotated[
    int | tuple[int, ...] | None,
    Text(parse_gpus, "all"),
    typer.Option(
        help="GPUs of this machine, a process for each: all, how many, or which: 0,3.", rich_help_panel=COMPUTING
    ),
]
Compiled = Annotated[
    Literal["auto", "on", "off"],
    typer.Option("--compile", help="torch.compile for the encoder; auto: on a GPU in bf16.", rich_help_panel=COMPUTING),
]
TpuChips = Annotated[
    int | None,
    Text(parse_chips, "all"),
    typer.Option(help="TPU chips of this machine, a process for each: all, or how many.", rich_help_panel=COMPUTING),
]
