"""OCTDL (Kulyabin 2024): single B-scans, with patient, eye and diseases in a table."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embeddings_store.dataset_record import DatasetTask
from extract.layouts.contract import Warned
from extract.layouts.dataset import Card, Dataset, Look
from extract.layouts.meanings import amd_against_normal, dme_against_normal

if TYPE_CHECKING:
    from extract.survey.facts import Surveyed

COLUMNS = ("disease", "subcategory", "condition", "sex", "year")
NO_ROW = "picture without a row in the csv: no patient, no label beyond its folder"


def _join(look: Look) -> None:
    without, rowless = list[str](), dict(look.drafts)
    for _, rows in look.rows(r"OCTDL_labels\.csv$", "file_name"):
        for row in rows:
            name = row.get("file_name", "").rpartition("/")[2]
            name = name.rpartition(".")[0] if name.lower().endswith((".jpg", ".jpeg", ".png")) else name
            draft = look.drafts.get(name)
            if draft is None:
                without.append(name)
                continue
            rowless.pop(name, None)
            draft.participant, draft.eye = row.get("patient_id", ""), row.get("eye", "").upper()
            draft.labels = {column: row.get(column, "") for column in COLUMNS}
            draft.facts = {"columns": row.get("image_width", ""), "rows": row.get("image_hight", "")}
    files = [info.key for draft in rowless.values() for info in draft.members]
    for name in rowless:
        look.drafts.pop(name)
    look.ignored.update(dict.fromkeys(files, NO_ROW))
    look.warn("row_without_files", "rows of the table whose picture is missing", without)
    look.warn("file_without_row", "pictures that no row of the table names", files)


def _judge(volumes: Sequence["Surveyed"]) -> list[Warned]:
    pictures = defaultdict(list)
    for one in volumes:
        pictures[one.scan.ref.participant].append(one)
    several = [person for person, own in pictures.items() if len(own) > 1]
    others = [
        one.scan.name
        for one in volumes
        if one.rows and (str(one.columns), str(one.rows)) != (one.scan.groups["columns"], one.scan.groups["rows"])
    ]
    return [
        Warned("several_pictures_per_participant", "group by patient_id", tuple(several)),
        Warned("table_size_differs", "image_width or image_hight differ from the picture", tuple(others)),
    ]


DATASET = Dataset(
    card=Card(
        title="OCTDL (Kulyabin et al. 2024)",
        what="2,064 single foveal B-scans of about 820 patients, Optovue Avanti RTVue XR, seven groups of diseases",
        get="Mendeley Data sncdhf53xc",
        licence="CC BY 4.0 (EyeDataHub)",
        citation="Kulyabin M. et al., Scientific Data 2024;11:365",
        traps=(
            "one patient has several pictures, both eyes, or two diseases: group by patient_id",
            "the authors' own script splits by picture, so published numbers leak patients",
            "some .jpg files are PNG inside, and more often for one disease than for others",
            "NO means normal and is no missing value",
        ),
    ),
    pattern=r"(?:AMD|DME|ERM|NO|RAO|RVO|VID)/(?P<stem>[^/]+)\.(?P<x_suffix>jpe?g|png)",
    name="{stem}",
    participant="",
    columns=COLUMNS,
    unit="picture",
    needs=r"OCTDL_labels\.csv$",
    join=_join,
    judge=_judge,
    conflict=("participant_in_several_classes", "patients with two diseases"),
    tasks=(
        DatasetTask("disease", "disease", "nominal", "scan", ("NO", "AMD", "DME", "ERM", "RAO", "RVO", "VID")),
        amd_against_normal("amd", "disease", "scan", normal="NO", amd=("AMD",)),
        dme_against_normal("disease", "scan", normal="NO"),
    ),
    expected=(2064, "pictures"),
)
