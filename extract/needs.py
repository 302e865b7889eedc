"""What one device needs to be kept busy: cores that decode, and a line to the bucket."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from extract.encoder.encoder import Encoder
from extract.encoder.onnx_file import OnnxModule

STATED_FLOP_PER_S = 100e12
"""What a data-centre accelerator does in bfloat16 in practice, stated and not measured."""

HOST_STAGES = ("decode", "preprocess")
"""What a core of the host does with a volume, one after the other."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one device. by: where its speed is from. cores: None where no volume was decoded."""

    volumes_per_second: float
    by: str
    cores: int | None
    line_mb_per_second: float

    def describe(self) -> str:
        """Say it in a sentence."""
        cores = "cores: not known, the doctor times volumes" if self.cores is None else f"{self.cores:,} cores"
        line = f"a line of {self.line_mb_per_second:,.0f} MB/s ({8 * self.line_mb_per_second:,.0f} Mbit/s)"
        return f"one device at {self.volumes_per_second:,.2f} volumes/s ({self.by}) needs {cores} and {line}"

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON object."""
        return asdict(self)


def needs_of(
    encoder: Encoder,
    bytes_per_volume: float,
    seconds: Mapping[str, float] | None = None,
    device: str = "cpu",
    *,
    forwards: int = 1,
) -> Needs | None:
    """Work out what one device needs; None of an ONNX graph, which does not tell its operations, on a CPU.

    seconds: of each stage for a volume, as measured here. device: an accelerator's own time counts, a CPU's does not.
    forwards: of a volume, with its views.
    """
    encode_s = (seconds or {}).get("encode", 0.0)
    if device != "cpu" and encode_s > 0:
        rate, by = 1 / encode_s, f"measured on {device}, one volume at a time: batches are faster"
    elif isinstance(encoder.module, OnnxModule):
        return None
    else:
        rate = STATED_FLOP_PER_S / encoder.architecture.flop_per_volume
        by = f"stated, not measured: {STATED_FLOP_PER_S / 1e12:.0f} TFLOP/s"
    rate /= forwards
    cores = None if seconds is None else max(1, ceil(rate * sum(seconds[stage] for stage in HOST_STAGES)))
    return Needs(float(f"{rate:.3g}"), by, cores, float(f"{rate * bytes_per_volume / 1e6:.3g}"))
