"""The options that say how a bucket is laid out: every verb that reads a bucket shares them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.command_line import Options, Text
from embeddings_store.errors import UsageError
from embeddings_store.schema import Reading
from embeddings_store.shared_options import SOURCE
from extract.layouts.datasets import dataset_names
from extract.readers.read_options import FRAMES_FIRST, Axes, Colours, ReadOptions

SECRET_NAME = "pseudonyms.key"
SCAN_COLUMNS = ("file", "participant", "eye", "device", "protocol", "site", "date", "split", "series")
"""The columns of a table of scans that mean something; every other one is a label or a covariate."""


def parse_layout(text: str) -> str:
    """Read the name of a layout. Raises UsageError, naming the nearest one."""
    known = ("auto", "ai-readi", "table", "folder", *dataset_names())
    if text not in known:
        near = get_close_matches(text.lower(), known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--layout: expected one of {', '.join(known)}, got {text!r}{hint}")
    return text


def parse_columns(text: str) -> dict[str, str]:
    """Read "file=path,participant=patient_id". Raises UsageError."""
    pairs = [part.partition("=") for part in text.split(",")]
    wrong = [name for name, mark, column in pairs if name.strip() not in SCAN_COLUMNS or not mark or not column.strip()]
    if wrong or len({name.strip() for name, *_ in pairs}) < len(pairs):
        raise UsageError(
            f"--columns: expected name=column pairs such as file=path,participant=patient_id, each name once, of "
            f"{', '.join(SCAN_COLUMNS)}; got {text!r}"
        )
    return {name.strip(): column.strip() for name, _, column in pairs}


def parse_axes(text: str) -> Axes:
    """Read the stored axes in their order. Raises: UsageError."""
    words = tuple(word.strip() for word in text.split(","))
    if len(words) != 3:
        raise UsageError(f"--axes: expected frames, rows and columns in the order of the file, got {text!r}")
    return ReadOptions(axes=words).axes or FRAMES_FIRST


ArrayName = Annotated[str | None, typer.Option(help="Name of the array (.npz, .mat, HDF5).", rich_help_panel=SOURCE)]
StoredAxes = Annotated[
    Axes | None,
    Text(parse_axes),
    typer.Option(help="Order of the stored axes, such as rows,columns,frames.", rich_help_panel=SOURCE),
]
InColour = Annotated[
    Colours,
    typer.Option(
        help="What to do with colour pictures: refuse them, or use their brightness (luma).", rich_help_panel=SOURCE
    ),
]


@dataclass(frozen=True, kw_only=True)
class LayoutOptions(Options):
    """How the bucket is laid out: what tells which objects are a scan, and whose.

    Example: LayoutOptions(layout="table", scans=Path("scans.csv"), columns={"file": "path"}).
    """

    layout: Annotated[
        str,
        Text(parse_layout, "auto"),
        typer.Option(
            help="How the bucket is laid out: auto, ai-readi, table, folder, or a public dataset (see datasets).",
            rich_help_panel=SOURCE,
        ),
    ] = "auto"
    scans: Annotated[
        Path | None,
        typer.Option(help="A table with a line for each scan, as survey writes it.", rich_help_panel=SOURCE),
    ] = None
    columns: Annotated[
        Mapping[str, str] | None,
        Text(parse_columns),
        typer.Option(
            help="Other names of columns in --scans: file=path,participant=patient_id.", rich_help_panel=SOURCE
        ),
    ] = None
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression on the key, with groups named participant, eye, device, protocol, visit.",
            rich_help_panel=SOURCE,
        ),
    ] = None
    pseudonyms: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret that turns each PatientID into a pseudonym; it is made if it is not there.",
            show_default=f"{SECRET_NAME} in the folder of the store or table",
            rich_help_panel=SOURCE,
        ),
    ] = None
    array: ArrayName = None
    axes: StoredAxes = None
    colours: InColour = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layout(self.layout)
        _ = ReadOptions(self.array, self.axes, self.colours)  # wrong axes are refused here
        wanted = "table" if self.scans is not None else "folder" if self.pattern is not None else self.layout
        if self.layout not in ("auto", wanted) or (self.scans is not None and self.pattern is not None):
            raise UsageError(
                f"--layout {self.layout}: --scans belongs to the layout table, --pattern to the layout folder; "
                "take one of them"
            )
        if self.layout == "table" and self.scans is None:
            raise UsageError("--layout table: expected the table of scans, --scans FILE; survey makes one")
        if self.columns is not None and self.scans is None:
            raise UsageError("--columns names columns of --scans: add it, or leave --columns out")

    @property
    def reading(self) -> Reading:
        """Return how files are read, where no dataset knows better."""
        return Reading(self.array, self.axes, self.colours == "luma")

    @property
    def takes_any_folder(self) -> bool:
        """Say whether a bucket that no known layout fits is taken as folders: a survey is what such a bucket needs."""
        return False

    @property
    def secret(self) -> Path | None:
        """Return the file of the pseudonyms' secret: as typed, else in the folder of what is written; None: nowhere."""
        if self.pseudonyms is not None:
            return self.pseudonyms
        written = getattr(self, "store", None) or getattr(self, "out", None)
        first = written[0] if isinstance(written, tuple) else written
        return None if first is None or "://" in str(first) else Path(first).absolute().parent / SECRET_NAME

    @property
    def layout_choice(self) -> "LayoutOptions":
        """Return the layout alone, without what a verb's options add to it."""
        chosen = {field.name: getattr(self, field.name) for field in fields(LayoutOptions)}
        return LayoutOptions(**chosen | {"pseudonyms": self.secret if self.layout == "folder" else self.pseudonyms})
