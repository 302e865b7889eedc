"""Noor Eye Hospital (Rasti 2018): two styles of folders, localizers as the first picture, annotated PNG twins."""

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from embeddings_store.schema import ObjectInfo
from extract.layouts.dataset import Card, Dataset, Draft, Look
from extract.layouts.meanings import amd_against_normal, dme_against_normal

LOCALIZER = "localizer of another size, no B-scan"
TWIN = "annotated PNG twin of a TIFF frame"
_CLASSES = {"amd": "AMD", "dme": "DME", "normal": "Normal"}


def _join(look: Look) -> None:
    twins, localizers, png_only = list[str](), list[str](), list[str]()
    for draft in look.drafts.values():
        draft.name = draft.name.rstrip("/")
        tiffs = [info for info in draft.members if info.key.lower().endswith((".tif", ".tiff"))]
        if tiffs:
            twins += _leave_out(look, draft, [info for info in draft.members if info not in tiffs], TWIN)
        elif draft.groups["session"]:
            png_only.append(draft.name)
        if len(draft.members) > 1:
            first, second = (look.size_of(info) for info in draft.members[:2])
            if first and second and first != second:
                localizers += _leave_out(look, draft, draft.members[:1], LOCALIZER)
    look.drafts = {draft.name: draft for draft in look.drafts.values()}
    look.warn("twin_pictures", "PNG twins of TIFF frames left out", twins)
    look.warn("picture_of_other_size", "localizers left out", localizers)
    look.warn("mixed_containers", "a volume has no TIFF and is read from PNG", png_only)


def _leave_out(look: Look, draft: Draft, objects: list[ObjectInfo], why: str) -> list[str]:
    kept = [pair for pair in zip(draft.numbers, draft.members, strict=True) if pair[1] not in objects]
    draft.numbers, draft.members = [number for number, _ in kept], [info for _, info in kept]
    look.ignored.update({info.key: why for info in objects})
    return [info.key for info in objects]


DATASET = Dataset(
    card=Card(
        title="Noor Eye Hospital macular OCT (Rasti et al. 2018)",
        what="148 volumes of 148 subjects (50 normal, 48 dry AMD, 50 DME), Heidelberg, 19 to 61 B-scans",
        get="the pages of H. Rabbani (Isfahan); the password stands on the page",
        licence="no formal licence was found",
        citation="Rasti R. et al., IEEE TMI 2018;37:1024-1034",
        traps=(
            "the first picture is a localizer of another size in many volumes",
            "annotated PNG twins next to the TIFF frames",
            "Image 10 stands before Image 2 as text",
            "two sessions in one folder are two volumes of one subject",
            "frame counts differ by class",
        ),
    ),
    pattern=r"(?P<cls>AMD|DME|Normal)(?: Part ?\d+)?/(?:AMD|DME|NORMAL) ?\((?P<number>\d+)\)(?:\.E2E)?/"
    r"(?:(?P<session>[^/]+)/)?Image \(?(?P<frame>\d+)\)?\.(?P<x_suffix>tiff?|png)",
    canon={"cls": _CLASSES},
    name="{cls}-{number}/{session}",
    participant="{cls}-{number}",
    visit="{session}",
    labels={"class": "{cls}"},
    columns=("class",),
    join=_join,
    tasks=(
        DatasetTask("disease", "class", "nominal", "participant", ("Normal", "AMD", "DME")),
        amd_against_normal("amd", "class", "participant", normal="Normal", amd=("AMD",)),
        dme_against_normal("class", "participant", normal="Normal"),
    ),
    splits=SplitScheme(otherwise="cross"),
    expected=(148, "volumes"),
)
