"""Optic nerve heads for glaucoma detection (Maetschke 2019): one .npy a visit of an eye, all told by the file name."""

from extract.layouts.dataset import Card, Dataset
from extract.layouts.meanings import glaucoma_against_normal

DATASET = Dataset(
    card=Card(
        title="OCT volumes for glaucoma detection (Maetschke et al. 2019)",
        what="1,110 optic-nerve-head volumes of 624 patients (263 healthy, 847 POAG), Zeiss Cirrus, 64 x 128 x 64",
        get="zenodo.org/records/1481223",
        licence="CC BY-NC (EyeDataHub on Zenodo 1481223; read the record)",
        citation="Maetschke S. et al., PLOS ONE 2019;14(7):e0219126; Ishikawa H., doi 10.5281/zenodo.1481223",
        traps=(
            "arrays are frames, rows (depth), columns of 64 x 128 x 64, though texts say 64 x 64 x 128",
            "repeat visits of one eye: a map from eye to file loses scans",
            "a patient may have one healthy and one glaucomatous eye: the label belongs to the eye",
            "no official split: group by patient",
        ),
    ),
    pattern=r"(?P<status>Normal|POAG)-(?P<patient>\d+)-(?P<date>\d{4}-\d\d-\d\d)-(?P<eye>OD|OS)\.npy",
    canon={"status": {"normal": "Normal", "poag": "POAG"}, "eye": {"od": "OD", "os": "OS"}},
    name="{patient}_{eye}_{date}",
    participant="{patient}",
    eye="{eye}",
    visit="{date}",
    labels={"status": "{status}", "poag": ("{status}", {"Normal": "0", "POAG": "1"})},
    columns=("status", "poag"),
    conflict=("label_differs_between_eyes", "one participant has eyes with different labels"),
    tasks=(glaucoma_against_normal("poag", "eye", ("0",), ("1",)),),
    expected=(1110, "volumes"),
)
