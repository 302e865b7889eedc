"""Duke A2A (Farsiu 2014): one .mat a person, frames on the last axis, subject numbers that restart in each class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from embeddings_store.dataset_record import DatasetTask
from embeddings_store.schema import Reading
from extract.layouts.contract import Scan, Warned
from extract.layouts.dataset import Card, Dataset, Look, reused
from extract.layouts.meanings import amd_against_normal

if TYPE_CHECKING:
    from extract.survey.facts import Surveyed


def _join(look: Look) -> None:
    found = reused(look.drafts, "number", "cls")
    look.warn("number_reused_across_classes", "the subject number alone is no participant key", found)


def _age(_: Scan, held: Mapping[str, str]) -> Mapping[str, str]:
    return {"age": held.get("Age", "")}


def _judge(volumes: Sequence["Surveyed"]) -> list[Warned]:
    usual = Counter(one.frames for one in volumes if one.frames).most_common(1)
    short = [one.scan.name for one in volumes if usual and one.frames and one.frames < usual[0][0]]
    newer = [one.scan.name for one in volumes if one.container == "MATLAB 7.3"]
    return [
        Warned("frame_count_differs", f"fewer frames than the usual {usual[0][0] if usual else 0}", tuple(short)),
        Warned(
            "mixed_containers", "some .mat files are v7.3 (HDF5)", tuple(newer if len(newer) < len(volumes) else ())
        ),
    ]


DATASET = Dataset(
    card=Card(
        title="Duke A2A SD-OCT (Farsiu et al. 2014)",
        what="384 subjects (269 intermediate AMD, 115 controls), one macular Bioptigen volume of 100 B-scans each",
        get="people.duke.edu/~sf59/RPEDC_Ophth_2013_dataset.htm, several zips",
        licence="research and education only, no commercial use, no redistribution (EyeDataHub on the Duke page)",
        citation="Farsiu S. et al., Ophthalmology 2014;121(1):162-172",
        traps=(
            "frames are the last axis of images",
            "subject numbers restart in each class: AMD 1001 and Control 1001 are two people",
            "Control 1088 has fewer frames",
            "no eye and no official split",
        ),
    ),
    pattern=r"(?P<cls>Control|AMD)/Farsiu_Ophthalmology_2013_(?P=cls)_Subject_(?P<number>\d+)\.mat",
    canon={"cls": {"control": "Control", "amd": "AMD"}},
    name="{cls}_{number}",
    participant="{cls}_{number}",
    labels={"class": "{cls}", "amd": ("{cls}", {"AMD": "1", "Control": "0"})},
    columns=("class", "amd", "age"),
    reading=Reading(array="images", axes=("rows", "columns", "frames")),
    join=_join,
    inside=_age,
    judge=_judge,
    tasks=(
        amd_against_normal("amd", "class", "participant", normal="Control", amd=("AMD",)),
        DatasetTask("age", "age", "number", "participant"),
    ),
    inside_for="age",
    expected=(384, "volumes"),
)
