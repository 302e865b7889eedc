"""The same ten real stacks in six kinds of file have one embedding each, bit for bit."""

from pathlib import Path

import numpy as np
from dicom_files import make_file
from PIL import Image
from scan_files import as_nifti, as_npy, as_npz, as_tiff
from small_bucket import options, tokens_of

from embeddings_store.reader import open_reader
from extract.pipeline import extract

SINGLE = {
    "dcm": make_file,
    "tif": lambda voxels: as_tiff(voxels, compression="lzw"),
    "npy": as_npy,
    "npz": lambda voxels: as_npz(packed=False, scan=voxels, age=np.array(70)),
    "nii": as_nifti,
}


def test_ten_real_stacks_have_one_embedding_whatever_the_file(real_oct: Path, tmp_path: Path) -> None:
    root, lines = tmp_path / "bucket", ["file,participant"]
    stacks = sorted(path for path in real_oct.iterdir() if path.is_dir())
    assert len(stacks) == 10
    for stack in stacks:
        (root / stack.name).mkdir(parents=True)
        paths = sorted(stack.glob("*.png"))
        for number, path in enumerate(paths):  # named so that text sorts them otherwise
            (root / stack.name / f"slice{number}.png").write_bytes(path.read_bytes())
        voxels = np.stack([np.asarray(Image.open(path).convert("L")) for path in paths])
        for kind, write in SINGLE.items():
            (root / f"{stack.name}.{kind}").write_bytes(write(voxels))
        lines += [f"{name},{stack.name}" for name in (stack.name, *(f"{stack.name}.{kind}" for kind in SINGLE))]
    (tmp_path / "scans.csv").write_text("\n".join(lines) + "\n")
    done = extract(options(root, tmp_path / "store", scans=tmp_path / "scans.csv", axes="frames,rows,columns"))
    assert (done["committed"], done["errors"]) == (60, {})
    reader = open_reader(str(tmp_path / "store"))
    rows = reader.index().set_index("key")["row"]
    found = {}
    for stack in stacks:
        of = [int(rows[name]) for name in (stack.name, *(f"{stack.name}.{kind}" for kind in SINGLE))]
        bits = {
            (reader.pooled([row]).tobytes(), tokens.tobytes())
            for row, tokens in zip(of, tokens_of(reader, of), strict=True)
        }
        assert len(bits) == 1, stack.name
        found[stack.name] = bits.pop()
    assert len(set(found.values())) == 10, "ten eyes, ten embeddings"
