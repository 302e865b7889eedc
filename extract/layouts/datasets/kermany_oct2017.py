"""Kermany 2018: single B-scans in official splits that share patients."""

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from extract.layouts.dataset import Card, Dataset
from extract.layouts.meanings import amd_against_normal, dme_against_normal

_CLASSES = {name.lower(): name for name in ("CNV", "DME", "DRUSEN", "NORMAL")}

DATASET = Dataset(
    card=Card(
        title="OCT2017 (Kermany et al. 2018)",
        what="84,484 to 109,309 single B-scans (CNV, DME, drusen, normal), Heidelberg Spectralis",
        get="data.mendeley.com/datasets/rscbjbr9sj, or Kaggle paultimothymooney/kermany2018",
        licence="CC BY 4.0 (EyeDataHub; one repository says CC BY-NC-SA 4.0)",
        citation="Kermany D. et al., Cell 2018;172:1122-1131",
        traps=(
            "patients lie in train, test and val: split by patient (Tampu I. et al., Scientific Data 2022;9:580)",
            "the number in a name counts pictures of a patient and is no slice position: never stack them",
            "equal pictures under two names, also across splits; one name in two splits with other pixels",
            "val has 8 pictures a class only",
        ),
    ),
    pattern=r"(?P<split>train|val|test)/(?P<cls>CNV|DME|DRUSEN|NORMAL)/(?P<stem>(?P=cls)-(?P<patient>\d+)-\d+)\.jpe?g",
    canon={"split": {name: name for name in ("train", "val", "test")}, "cls": _CLASSES},
    name="{split}/{cls}/{stem}",
    participant="{patient}",
    split="{split}",
    labels={"class": "{cls}"},
    columns=("class",),
    unit="picture",
    conflict=("participant_in_several_classes", "one patient number under two classes"),
    tasks=(
        DatasetTask("disease", "class", "nominal", "scan", ("NORMAL", "DRUSEN", "CNV", "DME")),
        amd_against_normal("amd", "class", "scan", normal="NORMAL", amd=("DRUSEN", "CNV")),
        dme_against_normal("class", "scan", normal="NORMAL"),
    ),
    splits=SplitScheme({name: name for name in ("train", "val", "test")}),
    expected=(84_484, "pictures"),
)
