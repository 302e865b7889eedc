"""OLIVES (Prabhushankar 2022): two studies, visits of eyes, labels by slice and by visit in two tables."""

from collections import defaultdict

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from embeddings_store.schema import ObjectInfo
from extract.layouts.dataset import Card, Dataset, Draft, Look

CLINICAL = ("bcva", "cst")


def _join(look: Look) -> None:
    folders = defaultdict(set)
    for draft in look.drafts.values():
        draft.name = draft.name.replace("//", "/")
        trex = draft.groups["trex"]
        draft.participant = f"TREX-{trex}" if trex else f"PRIME-{draft.groups['prime']}"
        draft.labels = {"study_label": "DME" if trex else "DR"}
        folders[draft.participant].add(draft.name.rpartition("/")[0].rpartition("/")[0])
    look.drafts = {draft.name: draft for draft in look.drafts.values()}
    several = sorted(person for person, own in folders.items() if len(own) > 1)
    text = "both eyes of one patient lie in different arm folders; a split by folder leaks"
    look.warn("participant_in_several_folders", text, several)
    other_suffix, with_slices = list[str](), set[str]()
    for info, rows in look.rows(r"(Biomarker_)?Clinical_Data_Images\.(csv|xlsx)$", *PATHS):
        for row in rows:
            path = next((row[name] for name in PATHS if row.get(name)), "")
            found = _find(look, path)
            if found is None:
                continue
            draft, picture = found
            draft.labels |= {name: _whole(row[name]) for name in CLINICAL if row.get(name)}
            if "biomarker" in info.key.lower():
                with_slices.add(draft.name)
            if picture and path.rpartition(".")[2].lower() != picture.key.rpartition(".")[2].lower():
                other_suffix.append(draft.name)
    text = "the tables name another file type than the disk has"
    look.warn("table_suffix_differs", text, sorted(set(other_suffix)))
    missing = [draft.name for draft in look.drafts.values() if not set(CLINICAL) & draft.labels.keys()]
    look.warn("labels_missing", "no clinical row for a visit", sorted(missing))
    text = "no biomarkers for a visit (unknown, not absent)"
    look.warn("frame_labels_missing", text, sorted(look.drafts.keys() - with_slices))


def _find(look: Look, path: str) -> tuple[Draft, ObjectInfo | None] | None:
    """Find what a row speaks of: a picture, else at least its visit."""
    clean = path.replace("\\", "/").strip("/")
    if found := look.by_path.get(clean.lower().rpartition(".")[0]):
        return found
    draft = look.drafts.get(clean.rpartition("/")[0])
    return (draft, None) if draft else None


def _whole(text: str) -> str:
    return text.removesuffix(".0")


PATHS = ("path_(trial/arm/folder/visit/eye/image_name)", "file_path")

DATASET = Dataset(
    card=Card(
        title="OLIVES (Prabhushankar et al. 2022)",
        what="96 eyes of 87 patients, 1,268 visits of 49 B-scans, Spectralis; biomarkers of 9,408 B-scans",
        get="Zenodo 10.5281/zenodo.7105232, zips inside zips",
        licence="CC BY 4.0 (the record)",
        citation="Prabhushankar M. et al., NeurIPS Datasets and Benchmarks 2022",
        traps=(
            "both eyes of nine patients lie in two arm folders: split by the number, not by the folder",
            "V10 stands before V2 and W100 before W12 as text",
            "the tables carry .tif where the disk has .png, and cover some visits only",
            "the study is the class, and so is the file type",
        ),
    ),
    pattern=r"(?:(?P<study>Prime_FULL)/(?P<prime>\d+-\d+)|(?P<study2>TREX DME)/(?P<arm>GILA|Monthly|TREX)/"
    r"(?P<folder>(?P<trex>\d+)[A-Z](?:OD|OS)))/(?P<visit>[A-Z]\d+)/(?P<eye>OD|OS)/(?P<x_name>TREXJ_)?(?P<frame>\d+)"
    r"\.(?P<x_suffix>png|tiff?)",
    canon={"eye": {"od": "OD", "os": "OS"}},
    ignored=((r"fundus_[^/]*\.(?:png|tiff?)", "near-IR fundus picture"),),
    name="{study}{study2}/{prime}{arm}/{folder}/{visit}/{eye}",
    participant="",
    eye="{eye}",
    visit="{visit}",
    columns=("study_label", *CLINICAL),
    join=_join,
    facts=(("label_confounded_with_source", "the class equals the study (folder, names and file type differ too)"),),
    tasks=(
        DatasetTask("disease", "study_label", "binary", "participant", ("DR", "DME")),
        DatasetTask("bcva", "bcva", "number", "scan"),
        DatasetTask("cst", "cst", "number", "scan"),
    ),
    splits=SplitScheme(otherwise="cross"),
    expected=(1268, "volumes"),
)
