"""What every test may use: the reference fixtures, and clean surroundings."""

import gc
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from b2_rules import refuse_what_b2_refuses
from checked_signatures import check_signatures
from command_line import Command, run_here

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from embeddings_store.s3_access import S3Access

ROOT = Path(__file__).parent.parent
PACKAGES = ("embeddings_store", "extract", "classify", "finetune", "reports")


def rooms(package: str) -> list[str]:
    """Name the modules and sub-packages of a package; not its cli, whose Context type exists for typer alone."""
    found = (path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    return [f"{package}.{path.stem}" for path in sorted(found) if path.stem not in {"__init__", "cli"}]


check_signatures([room for package in PACKAGES for room in rooms(package)])

with suppress(ModuleNotFoundError):  # the environment of the TPU lane has no hypothesis
    from hypothesis import settings

    settings.register_profile("house", deadline=None)  # a busy machine is no fault of the code
    settings.load_profile("house")

for _ending, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_ending) is signal.SIG_IGN:  # of nohup and "&", which what tests start would inherit
        signal.signal(_ending, _usual)

SHARED = Path(__file__).parent.parent.parent / "shared"
HEAVY = frozenset((Path(__file__).parent / "heavy.txt").read_text().split())
"""Files and folders of tests that make test-fast does not even read."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know --fast, which make test-fast gives."""
    parser.addoption("--fast", action="store_true", help="leave out the files that tests/heavy.txt lists")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over a heavy file in the fast lane."""
    is_heavy = collection_path.relative_to(ROOT / "tests").as_posix() in HEAVY
    return True if is_heavy and config.getoption("--fast") else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among modules: they stay until the end, and walking them was a fifth of reading the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))


@pytest.fixture(autouse=True)
def _notes_are_heard() -> Iterator[None]:
    """The library's notes, which a program that calls it does not see unless it asks, are on stderr in tests."""
    from embeddings_store.terminal.console import notes_on_stderr

    with notes_on_stderr():
        yield


@pytest.fixture(scope="session", autouse=True)
def _botocore_reads_once() -> Iterator[None]:
    """botocore parses its descriptions of AWS for each session: half of the time of a test that opens a bucket."""
    from botocore.loaders import JSONFileLoader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(cache(JSONFileLoader().load_file)))
        yield


@pytest.fixture
def command() -> Command:
    """Run a console script inside this process, as a user would type it: command("classify", "probe", ...)."""
    return run_here


@pytest.fixture(scope="session")
def b2_guard() -> Iterator[None]:
    """Each S3Source that is opened from now on fails on a request that B2 would refuse."""
    from extract.bucket import s3

    make_client = s3._make_client

    def make_guarded_client(access: "S3Access", streams: int) -> "S3Client":
        client = make_client(access, streams)
        client.meta.events.register("before-send.s3", refuse_what_b2_refuses)
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_make_client", make_guarded_client)
        yield


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch, b2_guard: None) -> Callable[[str, str], None]:
    """Put a test server's keys where boto3 and obstore look for them; boto3 is guarded (b2_guard)."""

    def use(access_key: str, secret_key: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)

    return use
