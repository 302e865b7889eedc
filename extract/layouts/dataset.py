"""Public datasets, mostly data: a pattern of keys, what its groups mean, tables, a card."""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from PIL import Image

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from embeddings_store.schema import ObjectInfo, Reading
from embeddings_store.text_table import open_table
from extract.bucket.source import Source
from extract.errors import BucketError, FetchError
from extract.layouts.contract import Listing, Scan, Skip, Warned, junk_of, make_ref, natural
from extract.layouts.workbook import read_workbook

if TYPE_CHECKING:
    from extract.survey.facts import Surveyed

Row: TypeAlias = Mapping[str, str]
APPLE = "AppleDouble companion with the name of a volume"
DOCUMENTS = (".txt", ".md", ".pdf", ".doc", ".docx", ".html", ".rtf")


@dataclass(frozen=True)
class Card:
    """What a person should know before using a dataset. licence: as stated, and by whom. traps: known ones."""

    title: str
    what: str
    get: str
    licence: str
    citation: str
    traps: tuple[str, ...]


@dataclass
class Draft:
    """A volume while tables are being joined to it. numbers: of its slices. facts: what tables say of the pictures."""

    name: str
    groups: dict[str, str]
    members: list[ObjectInfo]
    numbers: list[int]
    participant: str = ""
    eye: str = ""
    split: str = ""
    visit: str = ""
    device: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass
class Look:
    """One look at a dataset: objects, tables, and what was noticed. ignored: why a file is no volume, by key."""

    source: Source
    objects: Sequence[ObjectInfo]
    drafts: dict[str, Draft] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    warned: list[Warned] = field(default_factory=list)

    def warn(self, code: str, text: str, concerns: Sequence[str] = (), *, always: bool = False) -> None:
        """Note what spoils papers, where it concerns anything."""
        if concerns or always:
            self.warned.append(Warned(code, text, tuple(concerns)))

    def rows(self, pattern: str, *known: str) -> Iterator[tuple[ObjectInfo, list[Row]]]:
        """Give the tables whose key matches, each with its rows; names of columns are folded. Raises: BucketError."""
        for info in self.objects:
            if re.search(pattern, info.key, re.IGNORECASE) and junk_of(info) in {None, Skip.TABLE}:
                data = self.source.read_optional(info.key)
                if data is None:
                    continue
                if data.startswith(b"PK"):
                    yield info, read_workbook(data, info.key)
                    continue
                table = open_table(data, info.key, BucketError, known)
                once = [name for name, count in Counter(table.names).items() if count == 1 and name]
                yield info, [line.cells for line in table.read(want=once)]

    def size_of(self, info: ObjectInfo) -> tuple[int, int] | None:
        """Give columns and rows of a picture; None where it cannot be read."""
        try:
            with Image.open(io.BytesIO(self.source.fetch(info).data)) as picture:
                return picture.size
        except (FetchError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    @cached_property
    def by_path(self) -> Mapping[str, tuple[Draft, ObjectInfo]]:
        """Find a picture by the end of its key, in small letters and without its suffix: its last 1 to 6 parts."""
        found = {}
        for draft in self.drafts.values():
            for info in draft.members:
                parts = info.key.lower().rpartition(".")[0].split("/")
                for count in range(1, 7):
                    found["/".join(parts[-count:])] = (draft, info)
        return found


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A public dataset. pattern: of keys below any folder, without case; group ``frame`` numbers slices of a volume,
    groups that begin with x_ do not tell volumes apart. The texts from name to device are formats of its groups.

    canon: how values of a group are written, by what they are in small letters. labels: formats, or a format and what
    its values mean. columns: the label columns of a survey, the class first. masks: labels that the values 1, 2 ... of
    a mask named reference stand for. join: reads tables, and may drop or rename drafts. inside: labels from what a
    file holds with its voxels. judge: warnings that need the volumes. facts: warnings that are facts of the dataset.
    needs: of another object without which this is another dataset. conflict: code and words for a participant with two
    values of the first label. tasks, splits: see DatasetTask and SplitScheme. inside_for: the label for which files
    are opened before extraction, where tables do not tell it. expected: how many volumes, pictures or participants the
    whole dataset has.
    """

    card: Card
    pattern: str
    name: str
    participant: str
    eye: str = ""
    split: str = ""
    visit: str = ""
    device: str = ""
    labels: Mapping[str, str | tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    canon: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unit: Literal["volume", "picture"] = "volume"
    ignored: tuple[tuple[str, str], ...] = ()
    reading: Reading = field(default_factory=Reading)
    needs: str = ""
    join: Callable[[Look], None] | None = None
    inside: Callable[[Scan, Mapping[str, str]], Mapping[str, str]] | None = None
    masks: tuple[str, ...] = ()
    judge: Callable[[Sequence["Surveyed"]], list[Warned]] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    conflict: tuple[str, str] = ("participant_in_several_classes", "participants with several labels")
    tasks: tuple[DatasetTask, ...] = ()
    splits: SplitScheme = field(default_factory=SplitScheme)
    inside_for: str = ""
    expected: tuple[int, str] = (0, "volumes")

    def compiled(self) -> "re.Pattern[str]":
        """Compile the pattern, for keys below any folder."""
        return re.compile(rf"(?:.*/)?(?:{self.pattern})", re.IGNORECASE | re.ASCII)

    def part_of_whole(self, volumes: int, participants: int) -> str:
        """Say how much of the dataset is here; "" where it is whole, or nobody knows."""
        whole, unit = self.expected
        here = participants if unit == "participants" else volumes
        return f"{here:,} of the {whole:,} {unit} of {self.card.title} are here" if here < whole else ""

    def fits(self, objects: Sequence[ObjectInfo]) -> bool:
        """Say whether any object is a file of this dataset."""
        match = self.compiled().fullmatch
        needed = not self.needs or any(re.search(self.needs, info.key, re.IGNORECASE) for info in objects)
        return needed and any(match(info.key) and junk_of(info) is None for info in objects)


class DatasetLayout:
    """The layout of a public dataset."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        self.name, self._dataset = name, dataset

    def find(self, source: Source, objects: Sequence[ObjectInfo]) -> Listing:
        """Name every volume. Raises: BucketError where no file is of this dataset."""
        look, dataset = Look(source, objects), self._dataset
        skipped, examples = Counter[str](), dict[str, str]()
        self._sort_out(look, skipped, examples)
        if not look.drafts:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items()))
            raise BucketError(
                f"bucket {source.name}: none of {len(objects):,} objects is a scan of --layout {self.name} "
                f"({reasons or 'nothing is there'}); expected {dataset.card.title}: is --prefix right?"
            )
        if dataset.join is not None:
            dataset.join(look)
        for key, why in look.ignored.items():
            skipped[why] += 1
            examples.setdefault(why, key)
        scans = {scan.ref.key: scan for scan in (_scan(draft, dataset.reading) for draft in look.drafts.values())}
        skipped.update({str(reason): count for reason, count in source.counts.passed_over.items()})
        listed = len(objects) + source.counts.passed_over.total()
        return Listing(
            [scans[key].ref for key in sorted(scans)],
            listed,
            dict(skipped),
            self.name,
            scans,
            examples,
            {Skip.LAYOUT: f"a key of {dataset.card.title}"},
            look.ignored,
            tuple(look.warned),
            single_pictures=dataset.unit == "picture",
        )

    def _sort_out(self, look: Look, skipped: Counter[str], examples: dict[str, str]) -> None:
        match = self._dataset.compiled().fullmatch
        others = [(re.compile(rf"(?:.*/)?(?:{text})", re.IGNORECASE), why) for text, why in self._dataset.ignored]
        for info in look.objects:
            junk = junk_of(info)
            if junk in {Skip.TABLE, Skip.FOLDER} or (junk is None and info.key.lower().endswith(DOCUMENTS)):
                skipped[Skip.TABLE if junk is None else junk] += 1
            elif junk is not None:
                apple = info.key.rpartition("/")[2].startswith("._")
                look.ignored[info.key] = APPLE if apple else str(junk)
            elif why := next((why for pattern, why in others if pattern.fullmatch(info.key)), ""):
                look.ignored[info.key] = why
            elif found := match(info.key):
                self._add(look, info, {name: text or "" for name, text in found.groupdict().items()})
            else:
                skipped[Skip.LAYOUT] += 1
                examples.setdefault(Skip.LAYOUT, info.key)
        for draft in look.drafts.values():
            order = sorted(
                zip(draft.numbers, draft.members, strict=True), key=lambda one: (one[0], natural(one[1].key))
            )
            draft.numbers, draft.members = [number for number, _ in order], [info for _, info in order]

    def _add(self, look: Look, info: ObjectInfo, groups: dict[str, str]) -> None:
        dataset = self._dataset
        for name, words in dataset.canon.items():
            groups[name] = words.get(groups[name].lower(), groups[name])
        kept = {name: text for name, text in groups.items() if name != "frame" and not name.startswith("x_")}
        name = dataset.name.format(**kept)
        if name not in look.drafts:
            look.drafts[name] = Draft(
                name,
                groups,
                [],
                [],
                participant=dataset.participant.format(**kept),
                eye=dataset.eye.format(**kept),
                split=dataset.split.format(**kept),
                visit=dataset.visit.format(**kept),
                device=dataset.device.format(**kept),
                labels=_labels(dataset, kept),
            )
        look.drafts[name].members.append(info)
        look.drafts[name].numbers.append(int(groups.get("frame") or 0))


def _labels(dataset: Dataset, groups: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, told in dataset.labels.items():
        text, meaning = (told, None) if isinstance(told, str) else told
        value = text.format(**groups)
        found[name] = value if meaning is None else meaning.get(value, "")
    return found


def _scan(draft: Draft, reading: Reading) -> Scan:
    folder = draft.members[0].key.rpartition("/")[0]
    headed = next((info for info in draft.members if info.key.lower().endswith(".mhd")), None)
    alone = len(draft.members) == 1 and not draft.groups.get("frame")
    key = headed.key if headed else draft.members[0].key if alone else folder
    reading = replace(reading, leave_out=len(draft.members) > 1)
    ref = make_ref(key, draft.members, draft.participant, eye=draft.eye, device=draft.device, reading=reading)
    numbers = tuple(draft.numbers) if draft.groups.get("frame") else ()
    groups = draft.groups | draft.facts
    return Scan(ref, draft.name, draft.split, draft.visit, draft.labels, numbers, groups)


def reused(drafts: Mapping[str, Draft], number: str, within: str) -> list[str]:
    """List the numbers that stand under several values of a group."""
    found: dict[str, set[str]] = defaultdict(set)
    for draft in drafts.values():
        found[draft.groups[number]].add(draft.groups[within])
    return sorted(one for one, places in found.items() if len(places) > 1)
