"""The pages of README and docs/ as data: blocks, headings, links and pictures."""

import re
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
COMMENT = re.compile(r"<!--\s*(?P<word>needs|starts with):\s*(?P<rest>.*?)\s*-->")
TITLE = re.compile(r'title="(?P<path>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block. needs: what a machine must have to run it; title: the file that it is."""

    language: str
    text: str
    line: int
    needs: tuple[str, ...] = ()
    title: str | None = None


@dataclass(frozen=True)
class Page:
    """One page. starts_with: what must lie in the folder before its blocks can be typed."""

    path: Path
    blocks: tuple[Block, ...]
    headings: tuple[str, ...]
    links: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]  # address, alternative text
    words: tuple[str, ...]  # inline code
    starts_with: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def anchors(self) -> set[str]:
        """The anchors of the headings: GitHub and mkdocs agree on plain words."""
        return {slug(heading) for heading in self.headings}


def slug(heading: str) -> str:
    """Make an anchor as mkdocs does."""
    kept = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", kept)


@cache
def read_page(path: Path) -> Page:
    return parse_page(path, path.read_text(encoding="utf-8"))


def parse_page(path: Path, text: str) -> Page:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens if token.type == "inline" for child in token.children or []]
    return Page(
        path=path,
        blocks=tuple(_blocks(tokens)),
        headings=tuple(_headings(tokens)),
        links=tuple(str(token.attrs["href"]) for token in inline if token.type == "link_open"),
        pictures=tuple((str(token.attrs["src"]), token.content) for token in inline if token.type == "image"),
        words=tuple(token.content for token in inline if token.type == "code_inline"),
        starts_with=tuple(word for kind, words in _comments(tokens) if kind == "starts with" for word in words),
    )


def local_target(page: Page, link: str) -> tuple[Path, str] | None:
    """Split a link inside the repository into its file and anchor; None for one that leaves it."""
    if re.match(r"[a-z]+:", link):
        return None
    address, _, anchor = unquote(link).partition("#")
    return ((page.path.parent / address).resolve() if address else page.path), anchor


def _blocks(tokens: list[Token]) -> list[Block]:
    found, needs = [], ()
    for token in tokens:
        if token.type == "html_block":
            needs = tuple(word for kind, words in _comments([token]) if kind == "needs" for word in words)
        elif token.type == "fence":
            language, _, rest = token.info.strip().partition(" ")
            title = TITLE.search(rest)
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(language, token.content, line, needs, title["path"] if title else None))
            needs = ()
        elif token.type == "paragraph_open":
            needs = ()
    return found


def _headings(tokens: list[Token]) -> list[str]:
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]


def _comments(tokens: list[Token]) -> list[tuple[str, tuple[str, ...]]]:
    bodies = [token.content for token in tokens if token.type == "html_block"]
    return [(m["word"], tuple(m["rest"].replace(",", " ").split())) for body in bodies for m in COMMENT.finditer(body)]
