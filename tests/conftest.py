"""What every test may use: the reference fixtures, and clean surroundings."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference fixtures (encoder outputs, checkpoints, DICOM cases), where it exists."""
    if not (SHARED / "fixtures").is_dir():
        pytest.skip("the reference fixtures lie beside a source checkout (../shared/fixtures); they are not here")
    return SHARED / "fixtures"


@pytest.fixture(scope="session")
def real_oct() -> Path:
    """Ten real Spectralis stacks as PNG folders, where they exist; never copied into the repository."""
    if not (SHARED / "real_oct").is_dir():
        pytest.skip("the real OCT stacks lie beside a source checkout (../shared/real_oct); they are not here")
    return SHARED / "real_oct"


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's cloud profile, nor reaches for one."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
