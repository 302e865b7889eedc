"""Bad files: one clear refusal each, of bounded memory, and never an invented voxel."""

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from command_line import Command
from dicom_files import layered_volume, make_file
from PIL import Image
from scan_files import (
    as_folder,
    as_mat,
    as_mha,
    as_nifti,
    as_npy,
    as_npz,
    as_nrrd,
    as_picture,
    as_series,
    as_tiff,
)
from vendor_files import make_bioptigen, make_cirrus, make_e2e, make_heyex_xml, make_topcon, make_vol

from embeddings_store.errors import UsageError
from extract.errors import ScanError
from extract.readers.contract import ScanFile
from extract.readers.open import read_scan
from extract.readers.read_options import ReadOptions

GREY = layered_volume(4, 8, 6)
COLOUR = np.stack([GREY[0], GREY[1], GREY[2]], axis=-1)
SIXTEEN = layered_volume(3, 8, 6, "uint16")
MOST_BYTES = 8 << 20
HUGE = 10**12


def one(name: str, data: bytes) -> list[ScanFile]:
    return [ScanFile(name, data)]


def npy_claims(shape: object) -> bytes:
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(64)


def npz_claims(shape: object, size: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan.npy", npy_claims(shape) + bytes(size))
    return stream.getvalue()


def pickled() -> np.ndarray:
    array = np.empty((2, 2, 2), object)
    array[:] = {"a": 1}
    return array


def nifti_claims(*dims: int) -> bytes:
    data = bytearray(as_nifti(GREY))
    data[40 : 40 + 2 * (len(dims) + 1)] = struct.pack(f"<{len(dims) + 1}h", len(dims), *dims)
    return bytes(data)


def animated(kind: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(frame) for frame in GREY]
    frames[0].save(stream, format=kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def png_claims(columns: int, rows: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )


def palette_tiff() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY[0]).convert("P").save(stream, format="TIFF")
    return stream.getvalue()


def volumetric_tiff() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, GREY, photometric="minisblack", volumetric=True, tile=(16, 16, 16))
    return stream.getvalue()


def vol_claims(rows: int) -> bytes:
    data = bytearray(make_vol(GREY))
    data[20:24] = struct.pack("<I", rows)
    return bytes(data)


def cmyk() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(stream, format="JPEG")
    return stream.getvalue()


def two_sizes() -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(GREY[0], photometric="minisblack")
        writer.write(GREY[0, :4], photometric="minisblack")
    return stream.getvalue()


REFUSED = {
    "nothing": ([], "expected the files of a scan"),
    "other bytes": (one("x.bin", b"hello, this is text"), "expected a scan, got other bytes"),
    "a zip under another name": (one("x.zip", npz_claims((2, 2, 2))[:3] + b"\x04" + bytes(99)), "zip archive"),
    "two kinds in one folder": ([*one("a.npy", as_npy(GREY)), *as_folder(GREY)], "expected files of one kind"),
    "two arrays as one scan": ([*one("a.npy", as_npy(GREY)), *one("b.npy", as_npy(GREY))], "one scan alone"),
    # arrays
    "pickled npy": (one("a.npy", as_npy(pickled(), allow_pickle=True)), "pickled Python objects"),
    "pickled npz": (one("a.npz", as_npz(scan=pickled())), "pickled Python objects"),
    "npy bomb": (one("a.npy", npy_claims((10**4, 10**4, 10**4))), "claims 1,000,000,000,000 voxels"),
    "npy that overflows": (one("a.npy", npy_claims((2**40, 2**40, 2))), "voxels, more than"),
    "npz bomb": (one("a.npz", npz_claims((10**4, 10**4, 10**4))), "claims 1,000,000,000,000 voxels"),
    "npz whose array is short": (one("a.npz", npz_claims((50, 50, 50), 100)), "takes 125,000 bytes"),
    "negative length": (one("a.npy", npy_claims((-2, 4, 8))), "damaged"),
    "no frames": (one("a.npy", as_npy(GREY[:0])), "holds no B-scans"),
    "two axes": (one("a.npy", as_npy(GREY[0])), "three axes"),
    "four axes": (one("a.npy", as_npy(GREY[None])), "three axes"),
    "colour array": (one("a.npy", as_npy(np.stack([GREY, GREY, GREY + 1], -1))), "in colour"),
    "complex numbers": (one("a.npy", as_npy(GREY.astype(complex))), "whole or real numbers"),
    "words": (one("a.npy", as_npy(np.full((2, 2, 2), "abc"))), "whole or real numbers"),
    "not a number": (one("a.npy", as_npy(np.where(GREY > 90, np.nan, GREY))), "finite"),
    "beyond float32": (one("a.npy", as_npy(GREY.astype(np.float64) * 1e300)), "finite"),
    "beyond 24 bits": (one("a.npy", as_npy(GREY.astype(np.int64) << 40)), "expected numbers of 16 bits"),
    "two scans": (one("a.npz", as_npz(one=GREY, two=GREY)), "name the scan with --array"),
    "no scan": (one("a.npz", as_npz(grade=1)), "no array of three axes"),
    "cut mat": (one("a.mat", as_mat(images=GREY)[:-40]), "MATLAB file"),
    "mat turned": (one("a.mat", as_mat(images=np.zeros((32, 48, 8)))), "name them"),
    "mat without a scan": (one("a.mat", as_mat(x={"a": 1.0}, y="words")), "no array of three axes"),
    # volumes of research tools
    "nifti with four dimensions": (one("a.nii", nifti_claims(2, 4, 3, 8)), "three dimensions, got 4"),
    "nifti bomb": (one("a.nii", nifti_claims(32767, 32767, 900)), "voxels, more than"),
    "nifti turned": (one("a.nii", as_nifti(np.zeros((32, 48, 8), np.uint8))), "name them"),
    "nifti in colour": (
        one("a.nii", nib.Nifti1Image(GREY.view([(c, "u1") for c in "RGB"]), np.eye(4)).to_bytes()),
        "whole or real numbers",
    ),
    "gzip bomb": (one("a.nii.gz", gzip.compress(bytes(64 << 20))), "file"),
    "nifti header alone": (one("a.hdr", as_nifti(GREY)[:344] + b"ni1\0"), "the .img of this .hdr"),
    "meta of four axes": (one("a.mha", as_mha(GREY, NDims=4, DimSize="6 8 4 1")), "three axes, got 4"),
    "meta that contradicts itself": (one("a.mha", as_mha(GREY, DimSize="6 8")), "NDims says 3 axes"),
    "meta bomb": (one("a.mha", as_mha(GREY, DimSize=f"{HUGE} 1 1")), "voxels, more than"),
    "meta that leaves the folder": (one("a.mhd", as_mha(GREY, ElementDataFile="../../etc/passwd")), "another place"),
    "meta of a list": (one("a.mhd", as_mha(GREY, ElementDataFile="LIST")), "not in its folder"),
    "meta without pixels": (one("a.mhd", as_mha(GREY, ElementDataFile="a.raw")), "not in its folder"),
    "meta too short": (
        [*one("a.mhd", as_mha(GREY, ElementDataFile="a.raw")), *one("a.raw", bytes(9))], "the file has 9"
    ),
    "meta too long": ([*one("a.mhd", as_mha(GREY, ElementDataFile="a.raw")), *one("a.raw", bytes(999))], "has 999"),
    "meta packed bomb": (
        one("a.mha", as_mha(np.zeros((4, 8, 6), np.uint8), packed=True, DimSize="1 1 1")), "grow beyond"
    ),
    "meta as text": (one("a.mha", as_mha(GREY, BinaryData=False)), "written as text"),
    "meta of a strange type": (one("a.mha", as_mha(GREY, ElementType="MET_STRING")), "ElementType".lower()),
    "nrrd of four axes": (one("a.nrrd", as_nrrd(GREY, dimension=4, sizes="6 2 4 4")), "three axes, got 4"),
    "nrrd bomb": (one("a.nrrd", as_nrrd(GREY, sizes=f"{HUGE} 1 1")), "voxels, more than"),
    "nrrd as text": (one("a.nrrd", as_nrrd(GREY, encoding="ascii")), "expected encoding"),
    "nrrd that leaves the folder": (one("a.nhdr", as_nrrd(GREY, **{"data file": "/etc/passwd"})), "another place"),
    # pictures
    "two sizes": (
        [*as_folder(GREY), *one("P17_OD/9_image.png", as_picture(GREY[0, :4], "PNG"))], "expected 8 x 6 pixels"
    ),
    "two depths": ([*as_folder(GREY), *one("P17_OD/9_image.png", as_picture(SIXTEEN[0], "PNG"))], "one depth"),
    "colours with annotations": (one("a.png", as_picture(COLOUR, "PNG")), "in colour"),
    "transparent": (one("a.png", as_picture(np.dstack([COLOUR[..., :1]] * 3 + [GREY[1]]), "PNG")), "transparent"),
    "cmyk": (one("a.jpg", cmyk()), "the colours CMYK"),
    "animated gif": (one("a.gif", animated("GIF")), "an animation of 4 frames"),
    "still gif": (one("a.gif", as_picture(GREY[0], "GIF")), "GIF picture"),
    "animated png": (one("a.png", animated("PNG")), "an animation"),
    "picture bomb": (one("a.png", png_claims(30_000, 30_000)), "pixels"),
    "cut picture": (one("a.png", as_picture(GREY[0], "PNG")[:60]), "PNG picture is damaged"),
    "tiff of two sizes": (one("a.tif", two_sizes()), "pages of one size"),
    "tiff with a palette": (one("a.tif", palette_tiff()), "palette"),
    "tiff in blocks of depth": (one("a.tif", volumetric_tiff()), "expected pages"),
    "tiff of a folder with pages": (
        [*one("a/1.tif", as_tiff(GREY)), *one("a/2.tif", as_tiff(GREY))], "expected one page"
    ),
    # vendors
    "vol bomb": (one("a.vol", vol_claims(2**32 - 1)), "voxels, more than"),
    "vol cut": (one("a.vol", make_vol(GREY)[:-1]), "breaks off in B-scan 4 of 4"),
    "e2e cut": (one("a.e2e", make_e2e([(b"R", SIXTEEN)])[:-1]), "breaks off"),
    "e2e without B-scans": (one("a.e2e", make_e2e([])), "holds no B-scans"),
    "fda cut": (one("a.fda", make_topcon(SIXTEEN)[:-200]), "breaks off"),
    "fda without an end": (one("a.fda", make_topcon(SIXTEEN)[:-1]), "end mark"),
    "fda of damaged pictures": (one("a.fda", make_topcon(SIXTEEN, [b"\xff\x4f\xff\x51" + bytes(90)] * 3)), "B-scan"),
    "cirrus of another size": (one("a.img", make_cirrus(GREY)), "got 192 bytes"),
    "oct cut": (one("a.OCT", make_bioptigen(SIXTEEN[None])[:-60]), "breaks off in B-scan 3 of 3"),
    "xml without pictures": (one("a.xml", make_heyex_xml(["1.png"])), "B-scan 1 of 1 is not in the folder"),
    "xml with entities": (
        one("a.xml", b'<!DOCTYPE x [<!ENTITY a "b">]>' + make_heyex_xml(["1.png"])), "plain XML export"
    ),
    # DICOM, one frame a file
    "several series": (
        [*as_series(GREY)[:2], *one("z.dcm", make_file(GREY[:1], SeriesInstanceUID="1.2.3"))], "one series"
    ),
    "no order": (
        [*one("a.dcm", make_file(GREY[:1])), *one("b.dcm", make_file(GREY[1:2]))], "neither ImagePositionPatient"
    ),
    "frames of two sizes": (
        [*as_series(GREY)[:1], ScanFile("z.dcm", as_series(GREY[:, :4])[1].data)], "contradicts the first"
    ),
    "one frame alone": (as_series(GREY)[:1], "expected a volume, got 1 frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_one_clear_refusal(name: str) -> None:
    files, words = REFUSED[name]
    tracemalloc.start()
    try:
        with pytest.raises(ScanError) as refusal:
            read_scan(files)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert most < MOST_BYTES


def test_axes_are_each_named_once() -> None:
    for axes in (("frames", "rows", "rows"), ("a", "b", "c")):
        with pytest.raises(UsageError, match="each once"):
            ReadOptions(axes=axes)


def test_16_bit_pictures_stay_16_bit_and_colours_of_16_bits_are_refused() -> None:
    assert read_scan(one("a.png", as_picture(SIXTEEN[0], "PNG"))).voxels.dtype == np.uint16
    data = bytearray(as_picture(COLOUR, "PNG"))
    data[24] = 16
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ScanError, match="16 bits in colours"):
        read_scan(one("a.png", bytes(data)))


def test_luma_is_pillows() -> None:
    volume = read_scan(one("a.png", as_picture(COLOUR, "PNG")), options=ReadOptions(colours="luma"))
    np.testing.assert_array_equal(volume.voxels[0], np.asarray(Image.fromarray(COLOUR).convert("L")))


def test_single_file_commands_take_every_kind(command: Command, tmp_path: Path) -> None:
    (tmp_path / "scan.npz").write_bytes(as_npz(scan=GREY.transpose(1, 2, 0), age=66))
    folder = tmp_path / "P17_OD"
    folder.mkdir()
    for file in as_folder(GREY):
        (tmp_path / file.name).write_bytes(file.data)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._0_image.png").write_bytes(b"x")
    header = as_mha(GREY, ElementDataFile="oct.raw")
    (tmp_path / "oct.mhd").write_bytes(header)
    (tmp_path / "oct.raw").write_bytes(GREY.tobytes())
    seen = []
    for words in (["scan.npz", "--axes", "rows,columns,frames"], ["P17_OD"], ["oct.mhd"]):
        out = tmp_path / "out.npy"
        done = command(
            "extract-embeddings", "preprocess", tmp_path / words[0], *words[1:], "--out", out, "--image-size", "4,8,8"
        )
        assert done.code == 0, done.stderr
        seen.append(np.load(out))
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    done = command("extract-embeddings", "preview", folder, "--out", tmp_path / "look.png")
    assert done.code == 0
    assert "4 frames x 8 rows x 6 columns, uint8" in done.stdout
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.size == (1200, 900)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.png", as_picture(GREY[0], "PNG"), "a.png: expected a volume, got one picture"),
        ("both.e2e", make_e2e([(b"R", SIXTEEN), (b"L", SIXTEEN)]), "choose one with --volume: 1 (eye R), 2 (eye L)"),
        ("1.2.840.10008.5.1.4.1.npy", b"\x93NUMPY", "1.2.84....npy: the array's header is damaged"),
    ],
)
def test_single_file_commands_name_the_file(
    command: Command, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    done = command("extract-embeddings", "preprocess", tmp_path / name, "--out", tmp_path / "o.npy")
    assert (done.code, words in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert not (tmp_path / "o.npy").exists()


def test_a_changed_pixel_of_a_png_is_noticed_by_its_checksum() -> None:
    data = bytearray(as_picture(GREY[0], "PNG", compress_level=0))
    data[data.index(b"IDAT") + 4 + 20] ^= 1  # a pixel: nothing is compressed
    with pytest.raises(ScanError, match="checksum of its part b'IDAT'"):
        read_scan(one("a.png", bytes(data)))
