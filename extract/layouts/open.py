"""Which layout a bucket has: the one that was asked for, or the only one that fits."""

from collections.abc import Mapping, Sequence

from embeddings_store.errors import UsageError
from embeddings_store.schema import ObjectInfo
from extract.layouts.ai_readi import NAME, AiReadi, parse_object
from extract.layouts.contract import PLAIN, Layout, Skip
from extract.layouts.dataset import DatasetLayout
from extract.layouts.datasets import load_datasets
from extract.layouts.folder import FolderLayout
from extract.layouts.options import LayoutOptions
from extract.layouts.table import TableLayout


def find_layout(options: LayoutOptions, owners: Mapping[str, str], objects: Sequence[ObjectInfo]) -> Layout:
    """Give the layout of a bucket; owners: the participant of each key by the manifest of AI-READI.

    Raises: UsageError where --layout names one dataset and the files are another's, two datasets fit, or the layout
    knows better how files are read than the options say.
    """
    if options.scans is not None:
        return TableLayout(options.scans, options.columns or {}, options.reading)
    if options.pattern is not None or options.layout == "folder":
        return FolderLayout(options.pattern, options.secret, options.reading)
    known = any(not isinstance(parse_object(info), Skip) for info in objects)
    datasets = load_datasets()
    fitting = [] if known and options.layout == "auto" else [name for name in datasets if datasets[name].fits(objects)]
    if options.layout == "auto" and options.takes_any_folder and objects and not known and not fitting:
        return FolderLayout(options.pattern, options.secret, options.reading)
    if options.reading != PLAIN:
        raise UsageError(
            "--array, --axes and --colours belong to the layouts table and folder: the others say themselves how "
            "their files are read; leave them out, or give --scans or --layout folder"
        )
    if options.layout == NAME or known:
        if options.layout not in ("auto", NAME):
            raise UsageError(f"--layout {options.layout}: the keys of this bucket are those of {NAME}; leave it out")
        return AiReadi(owners)
    if options.layout != "auto":
        if options.layout not in fitting and fitting:
            raise UsageError(f"--layout {options.layout}: the files of this bucket are those of {fitting[0]}")
        return DatasetLayout(options.layout, datasets[options.layout])
    if len(fitting) > 1:
        raise UsageError(f"--layout auto: the files fit {' and '.join(fitting)}; name one, or give a --prefix below")
    return DatasetLayout(fitting[0], datasets[fitting[0]]) if fitting else AiReadi(owners)
