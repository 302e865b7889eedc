"""RETOUCH (Bogunovic 2019): MetaImage volumes of three vendors, labels as masks next to the training ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embeddings_store.dataset_record import DatasetTask, SplitScheme
from embeddings_store.schema import Reading
from extract.layouts.contract import Warned
from extract.layouts.dataset import Card, Dataset

if TYPE_CHECKING:
    from extract.survey.facts import Surveyed

MASK = "fluid mask, a label and no volume"
_VENDORS = {name.lower(): name for name in ("Cirrus", "Spectralis", "Topcon")}


def _judge(volumes: Sequence["Surveyed"]) -> list[Warned]:
    without = [one.scan.name for one in volumes if not one.has_mask]
    deep = [one.scan.name for one in volumes if one.bits == 16]
    return [
        Warned("labels_missing", "volumes without a reference: unknown, not healthy", tuple(without)),
        Warned(
            "mixed_bit_depth", "volumes of 16 bits among others of 8", tuple(deep if len(deep) < len(volumes) else ())
        ),
    ]


DATASET = Dataset(
    card=Card(
        title="RETOUCH challenge (Bogunovic et al. 2019)",
        what="112 macular volumes of 112 patients with AMD or RVO, 70 with voxel masks of fluid; three vendors",
        get="retouch.grand-challenge.org, after registration and a signed agreement",
        licence="agreement of data confidentiality: no redistribution (the site)",
        citation="Bogunovic H. et al., IEEE TMI 2019;38:1858-1874",
        traps=(
            "Spectralis volumes are 16-bit: divide by 257; a stretch per volume makes the vendors incomparable",
            "test volumes have no reference: unknown, not healthy",
            "vendor, frame count and size go together",
        ),
    ),
    pattern=r"RETOUCH-(?P<split>Training|Test)Set-(?P<vendor>Cirrus|Spectralis|Topcon)/(?P<id>[^/]+)/"
    r"(?!reference\.)(?P<x_file>[^/]+\.(?:mhd|raw|zraw))",
    canon={"split": {"training": "Training", "test": "Test"}, "vendor": _VENDORS},
    ignored=((r"reference\.(?:mhd|raw|zraw)", MASK),),
    name="{id}",
    participant="{id}",
    split="{split}",
    device="{vendor}",
    labels={"vendor": "{vendor}"},
    columns=("vendor", "irf", "srf", "ped"),
    reading=Reading(to_bytes=True),
    masks=("irf", "srf", "ped"),
    judge=_judge,
    facts=(("label_confounded_with_source", "vendor, frame count and size go together"),),
    tasks=tuple(
        DatasetTask(name, name, "binary", "participant", ("absent", "present"), {"absent": ("0",), "present": ("1",)})
        for name in ("irf", "srf", "ped")
    ),
    splits=SplitScheme(otherwise="cross"),  # published: the training part has no val, and the test part no labels
    expected=(112, "volumes"),
)
