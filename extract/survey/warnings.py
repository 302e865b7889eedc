"""What spoils papers: people in two splits, pixels under two names, missing slices, facts that give the label."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from embeddings_store.schema import Eye
from extract.layouts.contract import Listing, Warned
from extract.layouts.dataset import Dataset
from extract.survey.facts import NO_FRAMES, Surveyed
from extract.survey.shortcuts import facts_that_tell


def warn_of(listing: Listing, volumes: Sequence[Surveyed], dataset: Dataset | None) -> list[Warned]:
    """Give every warning that concerns anything, those of the dataset first."""
    whole = [one for one in volumes if not one.fault]
    found = list(listing.warned) + _of_dataset(whole, dataset)
    found += [
        Warned("patient_in_several_splits", "participants in two or more splits", _in_several(whole, _split)),
        Warned(
            "eye_unknown",
            "the laterality is not given",
            tuple(_names(whole, lambda one: one.scan.ref.eye == Eye.UNKNOWN)),
        ),
        Warned("repeat_visits", "several visits of one eye; group by participant", _repeated(whole)),
        Warned(
            "missing_slices", "numbers missing among the slices", tuple(_names(whole, lambda one: bool(one.missing)))
        ),
        Warned(
            "container_mismatch",
            "the content is another kind of picture than the name says",
            tuple(_names(whole, lambda one: one.is_mislabelled)),
        ),
        Warned("unreadable_file", "files that do not open are left out", _unreadable(volumes, empty=False)),
        Warned("empty_array", "files without B-scans", _unreadable(volumes, empty=True)),
        *_of_equal_pixels(whole, dataset),
        *facts_that_tell(whole, dataset.columns if dataset is not None else _label_columns(whole, None)),
    ]
    if not any(one.scan.split for one in whole):
        found.append(Warned("no_official_split", "no split comes with the data; split by participant"))
        return [one for one in found if one.concerns or one.code == "no_official_split" or one in _facts(dataset)]
    return [one for one in found if one.concerns or one in _facts(dataset)]


def _facts(dataset: Dataset | None) -> list[Warned]:
    if dataset is None:
        return []
    single = [("single_bscans", "pictures are single B-scans and must not be stacked into volumes")]
    return [Warned(code, text) for code, text in (*dataset.facts, *(single if dataset.unit == "picture" else []))]


def _of_dataset(volumes: Sequence[Surveyed], dataset: Dataset | None) -> list[Warned]:
    if dataset is None:
        return []
    judged = dataset.judge(volumes) if dataset.judge else []
    code, text = dataset.conflict
    first = dataset.columns[0] if dataset.columns else ""
    return [*_facts(dataset), *judged, Warned(code, text, _in_several(volumes, lambda one: one.labels.get(first, "")))]


def _in_several(volumes: Sequence[Surveyed], of: Callable[[Surveyed], str]) -> tuple[str, ...]:
    """List participants with several values."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in volumes:
        if of(one) and one.scan.ref.participant:
            found[one.scan.ref.participant].add(of(one))
    return tuple(sorted(person for person, values in found.items() if len(values) > 1))


def _split(one: Surveyed) -> str:
    return one.scan.split


def _names(volumes: Iterable[Surveyed], holds: Callable[[Surveyed], bool]) -> list[str]:
    return [one.scan.name for one in volumes if holds(one)]


def _repeated(volumes: Sequence[Surveyed]) -> tuple[str, ...]:
    eyes: dict[tuple[str, Eye], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in volumes:
        if one.scan.visit:
            eyes[one.scan.ref.participant, one.scan.ref.eye][one.scan.visit].append(one.scan.name)
    return tuple(name for visits in eyes.values() if len(visits) > 1 for names in visits.values() for name in names)


def _unreadable(volumes: Sequence[Surveyed], *, empty: bool) -> tuple[str, ...]:
    found = [key for one in volumes for key, _ in one.unreadable] if not empty else []
    return tuple(found + [one.scan.ref.key for one in volumes if one.fault and (NO_FRAMES in one.fault) == empty])


def _of_equal_pixels(volumes: Sequence[Surveyed], dataset: Dataset | None) -> list[Warned]:
    """Group volumes of equal voxels; where a label differs, they contradict each other."""
    same: dict[str, list[Surveyed]] = defaultdict(list)
    names: dict[str, list[Surveyed]] = defaultdict(list)
    for one in volumes:
        if one.sha256:
            same[one.sha256].append(one)
            if dataset is not None and dataset.unit == "picture" and one.scan.split:
                names[one.files[0].rpartition("/")[2].lower()].append(one)
    groups = [group for group in same.values() if len(group) > 1]
    columns = _label_columns(volumes, dataset)
    against = [group for group in groups if any(_differs(group, name) for name in columns)]
    other = [
        name.rpartition(".")[0]
        for name, own in names.items()
        if len({one.scan.split for one in own}) > 1 and len({one.sha256 for one in own}) > 1
    ]
    return [
        Warned("duplicate_pictures", "equal pixels under two names", _joined(g for g in groups if g not in against)),
        Warned("label_conflict", "equal pixels with two labels: leave them out", _joined(against)),
        Warned("same_name_other_pixels", "one file name in two splits with other pixels", tuple(other)),
    ]


def _joined(groups: Iterable[Sequence[Surveyed]]) -> tuple[str, ...]:
    return tuple(" = ".join(one.scan.name for one in group) for group in groups)


def _differs(group: Sequence[Surveyed], column: str) -> bool:
    return len({one.labels.get(column, "") for one in group} - {""}) > 1


def _label_columns(volumes: Sequence[Surveyed], dataset: Dataset | None) -> list[str]:
    """Name the labels: the first of a dataset and the classes of its tasks; else columns of few values, often each."""
    if dataset is not None:
        targets = [task.target for task in dataset.tasks if task.kind != "number"]
        return list(dict.fromkeys([*dataset.columns[:1], *targets]))
    values: Mapping[str, Counter[str]] = defaultdict(Counter)
    for one in volumes:
        for name, value in one.labels.items():
            values[name][value] += bool(value)
    return [name for name, counts in values.items() if 2 <= len(+counts) <= 10 and min((+counts).values()) > 1]
