"""The four scanners and their protocols: voxels, spacing, scan pattern, point spread, compression.

Voxel counts and spacing are those of the public AI-READI documentation (DATA.md, section 2). Looks, point spreads and
grey curves are chosen so that each device looks like itself; for the Spectralis they were set beside public B-scans
(Tian et al. 2015, PLOS ONE 10(8):e0133908): autocorrelation, contrast in a layer, and grey level of each layer.
"""

from dataclasses import dataclass, replace
from typing import Literal

MINIMUM_FRAMES = 4
MINIMUM_PIXELS = 32
"""JPEG 2000 is encoded with six resolutions, which need 32 pixels."""

Centre = Literal["fovea", "disc", "between"]


@dataclass(frozen=True, slots=True)
class Scanner:
    """How one device turns reflectivity into grey.

    looks: averaged speckle realisations of tissue; noise_looks: of the noise floor. psf_*_um: standard deviation of the
    speckle grain. snr_db: RPE over the noise floor. black_db and white_db: the levels that become grey 0 and 255 (under
    the fourth root, the ends of a scale that is linear in it). choroid_loss_db_per_mm: decay below Bruch's membrane.
    """

    device: str
    manufacturer: str
    model: str
    looks: float
    noise_looks: float
    psf_axial_um: float
    psf_lateral_um: float
    compression: Literal["log", "fourth_root"]
    snr_db: float
    black_db: float
    white_db: float
    gamma: float
    choroid_loss_db_per_mm: float


@dataclass(frozen=True, slots=True)
class Protocol:
    """One acquisition: counts, spacing in mm (axial, lateral, between frames), where it is centred."""

    name: str
    device: str
    rows: int
    columns: int
    frames: int
    axial_mm: float
    lateral_mm: float
    frame_mm: float
    centre: Centre = "fovea"
    radial: bool = False
    octa: bool = False

    @property
    def region(self) -> str:
        """Name the anatomic region in the words of the manifest."""
        return {"fovea": "Macula", "disc": "Optic Disc", "between": "Wide Field"}[self.centre]

    def scaled(self, scale: float) -> "Protocol":
        """Shrink the counts and widen the spacing, so that the field of view stays; never below 4 frames, 32 pixels."""
        rows = max(MINIMUM_PIXELS, round(self.rows * scale))
        columns = max(MINIMUM_PIXELS, round(self.columns * scale))
        frames = max(MINIMUM_FRAMES, round(self.frames * scale))
        return replace(
            self,
            rows=rows,
            columns=columns,
            frames=frames,
            axial_mm=self.axial_mm * self.rows / rows,
            lateral_mm=self.lateral_mm * self.columns / columns,
            frame_mm=self.frame_mm * self.frames / frames,
        )


SCANNERS = {
    scanner.device: scanner
    for scanner in (
        Scanner(
            "heidelberg_spectralis", "Heidelberg Engineering", "Spectralis",
            looks=8.0, noise_looks=1.0, psf_axial_um=3.9, psf_lateral_um=8.5, compression="fourth_root",
            snr_db=32.0, black_db=-0.4, white_db=33.9, gamma=1.0, choroid_loss_db_per_mm=72.0,
        ),
        Scanner(
            "topcon_maestro2", "Topcon", "3DOCT-1Maestro2",
            looks=2.2, noise_looks=2.2, psf_axial_um=3.2, psf_lateral_um=9.0, compression="log",
            snr_db=28.0, black_db=-6.0, white_db=35.0, gamma=1.15, choroid_loss_db_per_mm=55.0,
        ),
        Scanner(
            "topcon_triton", "Topcon", "DRI OCT Triton",
            looks=2.8, noise_looks=2.8, psf_axial_um=4.2, psf_lateral_um=9.0, compression="log",
            snr_db=28.0, black_db=-7.0, white_db=34.0, gamma=1.1, choroid_loss_db_per_mm=38.0,
        ),
        Scanner(
            "zeiss_cirrus", "Carl Zeiss Meditec", "CIRRUS HD-OCT 5000",
            looks=1.5, noise_looks=1.5, psf_axial_um=3.0, psf_lateral_um=9.0, compression="log",
            snr_db=27.0, black_db=-7.0, white_db=34.0, gamma=1.3, choroid_loss_db_per_mm=60.0,
        ),
    )
}  # fmt: skip

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("spectralis_ppol_mac_hr", "heidelberg_spectralis", 496, 768, 61, 0.00387, 0.012, 0.12),
        Protocol(
            "spectralis_onh_rc_hr", "heidelberg_spectralis", 496, 768, 27, 0.00387, 0.006, 0.0, "disc", radial=True
        ),
        Protocol(
            "spectralis_mac_20x20_hs_octa", "heidelberg_spectralis", 496, 512, 512, 0.00387, 0.0114, 0.0114, octa=True
        ),
        Protocol("maestro2_3d_macula", "topcon_maestro2", 885, 512, 128, 0.0026, 0.0117, 0.0469),
        Protocol("maestro2_3d_wide", "topcon_maestro2", 885, 512, 128, 0.0026, 0.0234, 0.0703, "between"),
        Protocol("maestro2_macula_6x6", "topcon_maestro2", 885, 360, 360, 0.0026, 0.0167, 0.0167, octa=True),
        Protocol("triton_3d_radial", "topcon_triton", 992, 512, 256, 0.0026, 0.0234, 0.0352),
        Protocol("triton_macula_6x6", "topcon_triton", 992, 320, 320, 0.0026, 0.019, 0.019, octa=True),
        Protocol("triton_macula_12x12", "topcon_triton", 992, 512, 512, 0.0026, 0.0234, 0.0234, octa=True),
        Protocol("cirrus_mac", "zeiss_cirrus", 1024, 512, 128, 0.00195, 0.0117, 0.0469),
        Protocol("cirrus_disc", "zeiss_cirrus", 1024, 200, 200, 0.00195, 0.0302, 0.0302, "disc"),
        Protocol("cirrus_macula_6x6_octa", "zeiss_cirrus", 1024, 350, 350, 0.00195, 0.0172, 0.0172, octa=True),
        Protocol("cirrus_disc_6x6_octa", "zeiss_cirrus", 1024, 350, 350, 0.00195, 0.0172, 0.0172, "disc", octa=True),
    )
}

DEFAULT_PROTOCOLS = ("spectralis_ppol_mac_hr", "maestro2_3d_macula", "triton_3d_radial", "cirrus_mac")
"""One structural macula protocol a device: eight files a participant."""
