"""Harvard-FairVision (Luo 2023): one .npz a person and disease, with the label inside, and a table with it."""

import re
from collections import defaultdict
from collections.abc import Mapping

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from embeddings_store.schema import Reading
from extract.layouts.contract import Scan
from extract.layouts.dataset import Card, Dataset, Look
from extract.layouts.meanings import amd_against_normal, glaucoma_against_normal

AMD = {
    "no.amd.diagnosis": 0, "not.in.icd.table": 0, "early.dry": 1, "intermediate.dry": 2,
    "advanced.atrophic.dry.with.subfoveal.involvement": 3, "advanced.atrophic.dry.without.subfoveal.involvement": 3,
    "wet.amd.active.choroidal.neovascularization": 3, "wet.amd.inactive.choroidal.neovascularization": 3,
    "wet.amd.inactive.scar": 3,
}  # fmt: skip
DR = {
    "no.dr.diagnosis": 0, "not.in.icd.table": 0, "mild.npdr": 0, "moderate.npdr": 0, "severe.npdr": 1, "pdr": 1,
}  # fmt: skip
WORDS = {
    "normal": 0, "early amd": 1, "intermediate amd": 2, "late amd": 3, "non-vision threatening dr": 0,
    "vision threatening dr": 1, "no": 0, "yes": 1,
}  # fmt: skip
RACES = {"asian": "0", "black": "1", "white": "2"}
_SPLITS = {"training": "Training", "train": "Training", "validation": "Validation", "val": "Validation", "test": "Test"}


def _join(look: Look) -> None:
    places = defaultdict(list)
    for draft in look.drafts.values():
        places[draft.groups["number"]].append(draft.groups["disease"])
        draft.labels["task_label"] = ""
    reused = sorted(number for number, diseases in places.items() if len(diseases) > 1)
    text = "a number occurs under several diseases; it is not known to be one person"
    look.warn("number_reused_across_tasks", text, reused)
    without = []
    for info, rows in look.rows(r"data_summary_(amd|dr|glaucoma)\.csv$", "filename"):
        disease = re.findall(r"data_summary_(\w+)\.csv", info.key.lower())[-1]
        for row in rows:
            name = f"{_DISEASES[disease]}/{''.join(re.findall(r'data_([0-9]+)', row.get('filename', '')))}"
            if name not in look.drafts:
                without.append(name)
                continue
            grade = WORDS.get(row.get(disease, "").lower())
            if grade is not None:
                look.drafts[name].labels |= {disease: str(grade), "task_label": f"{disease}={grade}"}
            look.drafts[name].labels |= {key: row[key] for key in ("age", "md") if row.get(key)}
    look.warn("row_without_files", "rows of a table whose .npz is missing", without)


def _inside(scan: Scan, held: Mapping[str, str]) -> Mapping[str, str]:
    disease = scan.groups["disease"].lower()
    grades = {"amd": AMD, "dr": DR, "glaucoma": {"0": 0, "1": 1}}[disease]
    condition = next((held[key] for key in ("amd_condition", "dr_subtype", "glaucoma") if key in held), "")
    told = {key: held[key] for key in ("race", "male", "hispanic", "md") if key in held}
    if "race" in told:  # a number, or its words
        told["race"] = next((code for word, code in RACES.items() if word in told["race"].lower()), told["race"])
    told |= {} if disease == "glaucoma" else {"condition": condition}
    if condition in grades:
        told |= {disease: str(grades[condition]), "task_label": f"{disease}={grades[condition]}"}
    return told


_DISEASES = {"amd": "AMD", "dr": "DR", "glaucoma": "Glaucoma"}

DATASET = Dataset(
    card=Card(
        title="Harvard-FairVision (Luo et al. 2023)",
        what="30,000 subjects, 10,000 each for AMD, DR and glaucoma: one Cirrus volume and one SLO picture each",
        get="the links of Harvard-Ophthalmology-AI-Lab/FairVision",
        licence="CC BY-NC-ND 4.0, research only (its README)",
        citation="Luo Y. et al., arXiv 2310.02492",
        traps=(
            "the label hides in the .npz, partly as text that must be mapped; AMD text may stand under dr_subtype",
            "not.in.icd.table counts as healthy in the authors' mapping",
            "a number occurs under several diseases; nobody says that it is one person",
            "some arrays are empty, and rows of the tables have no file where a download is partial",
        ),
    ),
    pattern=r"(?P<disease>AMD|DR|Glaucoma)/(?:Dataset/)?(?P<split>Training|Validation|Test|train|val)/"
    r"data_(?P<number>\d+)\.npz",
    canon={"disease": _DISEASES, "split": _SPLITS},
    ignored=((r"slo_\d+\.jpe?g", "SLO fundus picture"),),
    name="{disease}/{number}",
    participant="{disease}-{number}",
    split="{split}",
    columns=("task_label", "amd", "dr", "glaucoma", "condition", "md", "race", "male", "hispanic", "age"),
    reading=Reading(array="oct_bscans"),
    join=_join,
    inside=_inside,
    facts=(("licence_no_derivatives", "CC BY-NC-ND 4.0: no changed copies may be passed on"),),
    tasks=(
        DatasetTask(
            "amd",
            "amd",
            "ordered",
            "participant",
            ("normal", "early", "intermediate", "late"),
            {"normal": ("0",), "early": ("1",), "intermediate": ("2",), "late": ("3",)},
        ),
        amd_against_normal("any-amd", "amd", "participant", normal="0", amd=("1", "2", "3")),
        DatasetTask(
            "dr",
            "dr",
            "binary",
            "participant",
            ("not vision-threatening", "vision-threatening"),
            {"not vision-threatening": ("0",), "vision-threatening": ("1",)},
        ),
        glaucoma_against_normal("glaucoma", "participant", ("0",), ("1",)),
    ),
    splits=SplitScheme({"Training": "train", "Validation": "val", "Test": "test"}),
    inside_for="task_label",
    expected=(30_000, "volumes"),
)
