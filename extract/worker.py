"""Who computes: the record that a worker leaves in the store, so that each row can be traced to code and device."""

import platform
from typing import Any

from embeddings_store.terminal.provenance import code_commit, package_versions
from extract.device.backend import Backend

PACKAGES = (
    "octprobe",
    "torch",
    "numpy",
    "zarr",
    "pydicom",
    "boto3",
    "imagecodecs",
    "pyjpegls",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
)


def worker_record(backend: Backend) -> dict[str, Any]:
    """Tell device, precision, versions and code commit; no host name, no user."""
    return {
        "device": backend.name,
        "hardware": backend.description,
        "precision": backend.precision,
        "machine": platform.machine(),
        "versions": package_versions(PACKAGES),
        "commit": code_commit(),
    }
