"""The README stays a front door: short, and with a way to every room."""

from command_options import scripts
from markdown_pages import ROOT, local_target, read_page

README = ROOT / "README.md"
MOST_LINES = 150
# The start page is the README itself, and docstrings are looked up from the site.
NOT_LINKED = {"index.md", "reference.md"}


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MOST_LINES


def test_it_names_every_command() -> None:
    text = README.read_text()
    assert [name for name in scripts() if f"`{name.split()[-1]}`" not in text] == []


def test_it_leads_to_every_page() -> None:
    page = read_page(README)
    targets = {target[0] for link in page.links if (target := local_target(page, link))}
    assert {path for path in (ROOT / "docs").glob("*.md") if path.name not in NOT_LINKED} <= targets
