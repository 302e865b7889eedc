"""Every block of README and docs can be typed as it stands, or says what a machine needs for it."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from command_options import named_options, scripts
from markdown_pages import PAGES, ROOT, Block, Page, parse_page, read_page
from page_world import Typed, World

from classify.run.estimate import Estimate
from classify.run.folder import load_run

NEEDS = {
    "make": "make, pip and a package index",
    "b2": "a bucket at Backblaze",
    "gpu": "an NVIDIA GPU",
    "tpu": "a TPU and its tools",
    "slurm": "a SLURM cluster",
    "cluster": "a running Ray cluster",
    "index": "a package index",
    "dataset": "a public dataset, downloaded",
    "terminal": "somebody who presses Ctrl-C",
}
RUN = {"sh", "python", "diff"}
SHOWN = {"text", "yaml", "json", "bibtex", "make"}
TYPED = [page for page in map(read_page, PAGES) if any(block.language in RUN for block in page.blocks)]


def needless(page: Page) -> list[Block]:
    return [block for block in page.blocks if (block.language in RUN or block.title) and not block.needs]


def auroc_of(runs: Path) -> Estimate:
    """Return what the linear probe of a folder of runs reached on val."""
    (folder,) = runs.glob("*-linear-*")
    found = load_run(folder).record.judged.metrics["participant"]["val"]["macro_auroc"]
    assert not found.too_few
    return found


def effect_is_found_and_control_is_chance(folder: Path) -> None:
    """tests/truth/test_tutorial_control.py asks the same of five other seeds."""
    effect, control = auroc_of(folder / "runs"), auroc_of(folder / "null-runs")
    assert effect.low > 0.5
    assert control.low < 0.5 < control.high


SAID: Mapping[str, Callable[[Path], None]] = {"docs/tutorial.md": effect_is_found_and_control_is_chance}
"""What a page says of the results of its own commands."""


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in TYPED if needless(page)], ids=lambda page: page.name)
def test_a_page_can_be_typed(page: Page, world: World, tmp_path: Path) -> None:
    world.lay_out(page.starts_with, tmp_path)
    typed = Typed(tmp_path, world.environment(tmp_path, own_source="source" in page.starts_with))
    for block in needless(page):
        typed.block(block)
    if page.name in SAID:
        SAID[page.name](tmp_path)


@pytest.mark.parametrize("page", [read_page(path) for path in PAGES], ids=lambda page: page.name)
def test_a_block_says_what_it_is(page: Page) -> None:
    for block in page.blocks:
        assert block.language in RUN | SHOWN, f"{page.name}:{block.line}: no language that a test knows"
        assert set(block.needs) <= NEEDS.keys(), f"{page.name}:{block.line}: {block.needs}"


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_shell_is_shell_and_its_options_exist(page: Page, tmp_path: Path) -> None:
    for block in page.blocks:
        if block.language != "sh":
            continue
        checked = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, f"{page.name}:{block.line}: {checked.stderr}"
        assert unknown_options(block.text) == [], f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", [read_page(path) for path in PAGES], ids=lambda page: page.name)
def test_options_in_sentences_exist(page: Page) -> None:
    known = {option for script in scripts().values() for option in script.options} | FOREIGN_OPTIONS
    words = {word.strip(":,") for text in page.words for word in text.split()}
    named = {word.split("=")[0] for word in words if re.match("--[a-z]", word)}
    assert named - known == set()


FOREIGN_OPTIONS = {
    "--kills",
    "--draw",
    "--sizes",
    "--width",
    "--rows",
    "--write-page",
    "--user",
    "--shm-size",
    "--strict",
    "--only",
    "--long",
    "--hours",
    "--results",
    "--pack",
}


def unknown_options(shell: str) -> list[tuple[str, str]]:
    return [(name, option) for name, option in named_options(shell) if option not in scripts()[name].options]


def test_an_option_that_went_away_is_found() -> None:
    assert unknown_options("classify probe --modell linear --store s | tee log") == [("classify probe", "--modell")]
    nested = 'gcloud compute tpus tpu-vm ssh pod --command="extract-embeddings --bukket b"'
    assert unknown_options(nested) == [("extract-embeddings", "--bukket")]
    assert unknown_options("extract-embeddings status --store s --json && ls --nonsense") == []


def test_a_block_that_fails_fails(tmp_path: Path) -> None:
    page = parse_page(ROOT / "x.md", "<!-- needs: tpu -->\n```sh\nfalse\n```\n\n```sh\nfalse | cat\n```\n")
    assert [block.needs for block in page.blocks] == [("tpu",), ()]
    with pytest.raises(AssertionError, match="code"):
        Typed(tmp_path, {"PATH": "/usr/bin:/bin"}).block(page.blocks[1])
