"""Srinivasan 2014: a folder of TIFF pictures a person, of which the number nearly tells the class."""

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from extract.layouts.dataset import Card, Dataset
from extract.layouts.meanings import amd_against_normal, dme_against_normal

_CLASSES = {"amd": "AMD", "dme": "DME", "normal": "NORMAL"}

DATASET = Dataset(
    card=Card(
        title="Srinivasan et al. 2014 (AMD, DME, NORMAL), also called Duke DME, BOE or Duke14",
        what="45 volumes of 45 subjects (15 dry AMD, 15 DME, 15 normal), Heidelberg Spectralis, 31 to 97 B-scans",
        get="people.duke.edu/~sf59/Srinivasan_BOE_2014_dataset.htm",
        licence="research and education, no commercial redistribution (as the Duke page is read)",
        citation="Srinivasan P. et al., Biomed. Opt. Express 2014;5:3568-3577",
        traps=(
            "frame counts and widths differ by class: the number of frames alone nearly tells it",
            "names are padded differently: 10.tif stands before 2.tif as text, and so does AMD10 before AMD2",
            "white borders from the export",
            "45 subjects and no official split: never split by picture",
        ),
    ),
    pattern=r"(?P<cls>AMD|DME|NORMAL)(?P<number>\d+)/TIFFs/8bitTIFFs/(?P<frame>\d+)\.(?P<x_suffix>tiff?)",
    canon={"cls": _CLASSES},
    name="{cls}{number}",
    participant="{cls}{number}",
    labels={"class": "{cls}"},
    columns=("class",),
    facts=(("frame_count_tells_class", "frame counts (and widths) differ systematically by class"),),
    tasks=(
        DatasetTask("disease", "class", "nominal", "participant", ("NORMAL", "AMD", "DME")),
        amd_against_normal("amd", "class", "participant", normal="NORMAL", amd=("AMD",)),
        dme_against_normal("class", "participant", normal="NORMAL"),
    ),
    splits=SplitScheme(otherwise="cross"),
    expected=(45, "volumes"),
)
