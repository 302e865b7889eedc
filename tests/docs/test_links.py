"""Every link of README and docs leads somewhere, and every picture says in words what it shows."""

import pytest
from markdown_pages import PAGES, ROOT, Page, local_target, parse_page, read_page

EVERY = [read_page(path) for path in PAGES]


def broken_links(page: Page) -> list[str]:
    found = []
    for link in (*page.links, *(address for address, _ in page.pictures)):
        target = local_target(page, link)
        if target is None:
            continue
        path, anchor = target
        missing = not path.exists() or (anchor and path.suffix == ".md" and anchor not in read_page(path).anchors)
        found += [link] if missing else []
    return found


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.name)
def test_links_resolve(page: Page) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.name)
def test_pictures_have_words(page: Page) -> None:
    assert [address for address, words in page.pictures if len(words) < 15] == []


def test_a_broken_link_is_found() -> None:
    text = "# One\n[a](#one) [b](#two) [c](docs/none.md) [d](README.md#no-such-part) ![](docs/case.png)\n"
    page = parse_page(ROOT / "README.md", text)
    assert [link for link in broken_links(page) if link != "#one"] == ["#two", "docs/none.md", "README.md#no-such-part"]
