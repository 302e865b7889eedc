"""GAMMA (Wu 2023): slices in a folder of their own next to a fundus picture, grades one-hot in workbooks."""

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from extract.layouts.dataset import Card, Dataset, Look
from extract.layouts.meanings import glaucoma_against_normal

GRADES = ("non", "early", "mid_advanced")
_SPLITS = {"train": "Train", "training": "Train", "validation": "Validation", "test": "Test", "testing": "Test"}


def _join(look: Look) -> None:
    width = max(map(len, look.drafts))
    without = set()
    for _, rows in look.rows(r"glaucoma_grading[^/]*\.(xlsx|csv)$", "data", *GRADES):
        for row in rows:
            name = str(int(float(row["data"]))).zfill(width) if row.get("data") else ""
            grades = [grade for grade in GRADES if row.get(grade) in {"1", "1.0"}]
            if name not in look.drafts:
                without.add(name)
            elif len(grades) == 1:  # non is no disease: 1 in that column means healthy
                index = GRADES.index(grades[0])
                told = {"grade": grades[0], "grade_index": str(index), "glaucoma": str(int(index > 0))}
                look.drafts[name].labels.update(told)
    look.warn("row_without_files", "a labelled id has no pictures", sorted(without - {""}))
    unlabelled = [draft.name for draft in look.drafts.values() if "grade" not in draft.labels]
    look.warn("labels_missing", "pictures whose id no table grades", unlabelled)


DATASET = Dataset(
    card=Card(
        title="GAMMA challenge (Wu et al. 2023)",
        what="300 pairs of fundus photograph and macular volume of 276 patients, Topcon DRI Triton, 256 B-scans each",
        get="gamma.grand-challenge.org, after registration",
        licence="CC BY-NC-ND (a Hugging Face card and EyeDataHub; mmsegmentation: CC BY-NC 4.0; read it on the site)",
        citation="Wu J. et al., Medical Image Analysis 2023;90:102938",
        traps=(
            "non = 1 means no glaucoma: the column is not the label",
            "10_image.jpg stands before 2_image.jpg as text",
            "an id is a sample, no patient: both eyes of one person may lie in two splits, and nobody can check",
        ),
    ),
    pattern=r"(?P<split>Train|Training|Validation|Test|Testing)/multi-modality_images/(?P<id>\d+)/(?P=id)/"
    r"(?P<frame>\d+)_image\.jpe?g",
    canon={"split": _SPLITS},
    ignored=((r"(?P<id>\d+)/(?P=id)\.jpe?g", "fundus photograph"),),
    name="{id}",
    participant="{id}",
    split="{split}",
    columns=("grade", "grade_index", "glaucoma"),
    join=_join,
    facts=(("no_patient_key", "ids are samples, not patients; both eyes of one patient may lie in two splits"),),
    tasks=(
        glaucoma_against_normal("glaucoma", "participant", ("0",), ("1",)),
        DatasetTask("grade", "grade", "ordered", "participant", GRADES),
    ),
    splits=SplitScheme({"Train": "train", "Validation": "val", "Test": "test"}),
    expected=(300, "volumes"),
)
