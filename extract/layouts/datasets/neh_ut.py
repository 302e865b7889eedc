"""NEH-UT 2021 (Sotoudeh-Paima 2022): pictures labelled one by one, in folders of another label; eyes in a table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from embeddings_store.dataset_record import DatasetTask
from embeddings_store.schema import ObjectInfo, Reading
from extract.layouts.dataset import Card, Dataset, Look, reused
from extract.layouts.meanings import amd_against_normal


def _join(look: Look) -> None:
    seen, doubled, other_case, without = set[str](), list[str](), list[str](), list[str]()
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for _, rows in look.rows(r"data_information\.csv$", "directory"):
        for row in rows:
            path = row.get("directory", "").replace("\\", "/").strip("/")
            lower = path.lower().rpartition(".")[0]
            if lower in seen:
                doubled.append(path)
                continue
            seen.add(lower)
            found = look.by_path.get("/".join(lower.split("/")[-4:]))
            if found is None:
                without.append(path)
                continue
            draft, info = found
            if not info.key.endswith(path):
                other_case.append(path)
            draft.eye = draft.eye or row.get("eye", "").upper()
            labels[draft.name][info.key] = row.get("label", "").upper()
    look.warn("row_without_files", "rows of the table whose picture is missing", without)
    look.warn("table_rows_doubled", "rows of the table name the same picture twice", doubled)
    look.warn("table_case_differs", "paths of the table differ from the disk in letter case only", other_case)
    found_twice = reused(look.drafts, "number", "cls")
    look.warn("number_reused_across_classes", "patient numbers restart per class", found_twice)
    drafts = list(look.drafts.values())
    differing = [
        draft for draft in drafts if _labels_of_slices(draft.members, labels[draft.name]) - {draft.groups["cls"]}
    ]
    for draft in drafts:
        draft.name = "-".join(part for part in (draft.groups["cls"], draft.groups["number"], draft.eye) if part)
    look.drafts = {draft.name: draft for draft in drafts}
    names = sorted(draft.name for draft in differing)
    look.warn("frame_label_differs_from_class", "B-scan labels differ from the class of the folder", names)


def _labels_of_slices(members: Sequence[ObjectInfo], told: Mapping[str, str]) -> set[str]:
    """Give the labels of the slices: as the table says, else as their names do."""
    named = {info.key: info.key.rpartition("_")[2].partition(".")[0].upper() for info in members}
    return set((named | {key: label for key, label in told.items() if label}).values())


_CLASSES = {"normal": "NORMAL", "drusen": "DRUSEN", "cnv": "CNV"}

DATASET = Dataset(
    card=Card(
        title="NEH-UT 2021 retinal OCT (Sotoudeh-Paima et al. 2022)",
        what="16,803 pictures of 441 patient folders (120 normal, 160 drusen, 161 CNV), Heidelberg Spectralis",
        get="Mendeley Data 8kt969dhx6",
        licence="CC BY 4.0 (EyeDataHub)",
        citation="Sotoudeh-Paima S. et al., Computers in Biology and Medicine 2022;144:105368",
        traps=(
            "the label of a B-scan often differs from the class of its folder",
            "byte-equal folders under two numbers, some under two classes",
            "the table differs from the disk in letter case, and its rows are doubled",
            "numbers restart per class: CNV 1 and NORMAL 1 are two people",
            "grey is stored as RGB with a coloured scale bar; the file type follows the patient",
        ),
    ),
    pattern=r"(?P<cls>NORMAL|DRUSEN|CNV)/(?P<number>\d+)/(?:(?P<eye>OD|OS)/)?(?P<frame>\d+)_(?P<x_label>[A-Za-z]+)"
    r"\.(?P<x_suffix>jpe?g|tiff?)",
    canon={"cls": _CLASSES, "eye": {"od": "OD", "os": "OS"}},
    name="{cls}-{number}-{eye}",
    participant="{cls}-{number}",
    eye="{eye}",
    labels={"class": "{cls}", "diseased": ("{cls}", {"NORMAL": "0", "DRUSEN": "1", "CNV": "1"})},
    columns=("class", "diseased"),
    reading=Reading(to_grey=True),
    join=_join,
    tasks=(
        DatasetTask("disease", "class", "nominal", "scan", ("NORMAL", "DRUSEN", "CNV")),
        amd_against_normal("amd", "class", "scan", normal="NORMAL", amd=("DRUSEN", "CNV")),
    ),
    expected=(441, "participants"),
)
