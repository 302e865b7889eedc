"""What of a plan can be, seen before anything is encoded: each encoder that cannot read a dataset is a gap by name."""

from pathlib import Path

import pytest

from embeddings_store.errors import OctProbeError
from reports.benchmark.look import Gap, Looked, look_at
from reports.benchmark.plan import read_plan

PLAN = """
datasets:
  pictures: {{bucket: "{datasets}/octdl", tasks: [octdl/amd]}}
  noor_rasti: {{bucket: "{datasets}/noor_rasti", tasks: [amd]}}
encoders:
  volumes: {{family: "random:tiny", image_size: [4, 32, 32]}}
  slices: {{family: "random:tiny,family=dinov2", slices: [centre, 4, all]}}
  nc: {{family: retfound, checkpoint: "{encoders}/retfound_mae/checkpoint.pth", heads: 4}}
  other: {{family: dinov2, checkpoint: "{encoders}/retfound_mae/checkpoint.pth", heads: 4}}
  gone: {{family: mirage, checkpoint: gone.pth}}
heads: [linear]
"""


def look(folder: Path, reference: Path, *accepted: str, old: str = "", new: str = "") -> tuple[list[Looked], list[Gap]]:
    path = folder / "plan.yaml"
    text = PLAN.format(datasets=reference / "datasets", encoders=reference / "encoders")
    assert old in text
    path.write_text(text.replace(old, new) if old else text)
    return look_at(read_plan(path), folder / "out", accepted=accepted, device="cpu", tell=lambda _: None)


def test_each_gap_has_its_reason_and_the_rest_goes_on(tmp_path: Path, reference: Path) -> None:
    looked, gaps = look(tmp_path, reference)
    pictures, volumes = (
        {gap.variant: gap.reason for gap in gaps if gap.dataset == one} for one in ("pictures", "noor_rasti")
    )
    for variant, said in (
        ("volumes", "single B-scans"), ("slices@4", "single B-scans"), ("nc", "--accept-licence retfound"),
        ("other", "it looks like retfound"), ("gone", "gone.pth: the file of its weights is not there"),
    ):  # fmt: skip
        assert said in pictures[variant]
    assert set(volumes) == {"nc", "other", "gone"}
    assert [[seen.variant.name for seen in one.seen] for one in looked] == [
        ["slices@centre", "slices@all"], ["volumes", "slices@centre", "slices@4", "slices@all"],
    ]  # fmt: skip
    assert [one.volumes for one in looked] == [13, 9]
    assert not (tmp_path / "out").exists()


def test_an_accepted_licence_opens_the_cell_and_slices_name_the_store(tmp_path: Path, reference: Path) -> None:
    looked, gaps = look(tmp_path, reference, "retfound")
    assert "nc" not in {gap.variant for gap in gaps}
    stores = {seen.variant.name: Path(seen.store) for seen in looked[1].seen}
    assert len({path.name.rpartition("-")[2] for path in stores.values()}) == 5, "each space has a store of its own"
    assert {one.choice.encoder for one in looked[1].options.outputs} >= {"retfound", "random:tiny"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[octdl/amd]", "[octdl/amdd]", "nearest is octdl/amd"),
        ("[octdl/amd]", "[a2a/amd]", "tasks of octdl"),
        ("tasks: [octdl/amd]", "tasks: [octdl/amd], layout: gamma", "dataset pictures: "),
        ("tasks: [octdl/amd]", "tasks: [octdl/amd], where: frames>900", "dataset pictures: "),
        ("/octdl", "/nowhere", "dataset pictures: "),
        ("tasks: [octdl/amd]", "labels: gone.csv, target: a", "dataset pictures: labels: expected a table"),
        ("tasks: [octdl/amd]", "participants: gone.tsv, tasks: [healthy-vs-rest]", "there is no file"),
    ],
)
def test_a_dataset_that_cannot_be_stops_before_anything_is_encoded(
    tmp_path: Path, reference: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(OctProbeError) as raised:
        look(tmp_path, reference, old=old, new=new)
    assert said in str(raised.value)
    assert not (tmp_path / "out").exists()
