"""Fills the page's templates, and publishes one self-contained HTML file."""

import re
import shlex
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from classify.run.leaves import flatten
from classify.run.record import RunRecord
from embeddings_store.errors import RunError
from embeddings_store.publish import published
from reports.headline import number
from reports.tables import pick_groups

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = "page.js"
"""The only script of a page; the page's own policy (Content-Security-Policy) lets nothing else run."""

USE_ONLY = "Research use only — not for clinical decisions"
SETTINGS = ("parameters", "features", "search", "seeds", "versions", "seconds")


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill a template. Every value is escaped; a name that the context lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        words=in_words,
        breakable=breakable,
        metric_title=metric_title,
        command=command_line,
        settings=settings,
    )
    environment.globals.update(use_only=USE_ONLY, policy=content_policy())
    return environment.get_template(template).render(**context)


def content_policy() -> str:
    """Return the Content-Security-Policy of every page: nothing is loaded, and only the page's own script runs."""
    digest = b64encode(sha256((TEMPLATES / SCRIPT).read_bytes().removesuffix(b"\n")).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def is_page(text: bytes) -> bool:
    """Return whether these are the bytes of a page that render made."""
    return b'class="use-only"' in text


def publish(page: str, path: Path) -> None:
    """Write aside and rename, so that a reader never sees half a page.

    Raises: RunError when the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with published(path, durable=False) as aside:
            aside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"--out {path.parent}: expected a folder to write to, got: {error.strerror}; choose another --out"
        ) from error


def in_words(name: str) -> str:
    """Write a class name with spaces, so that a long one can wrap."""
    return name.replace("_", " ")


def breakable(name: str) -> Markup:
    """Let a name of several words, such as a protocol's or a baseline's, wrap after each of them."""
    return Markup("<wbr>").join(re.split(r"(?<=[_+/])", name))


def metric_title(kind: str) -> str:
    """Write the name of a per-class metric as on paper."""
    return {"auroc": "AUROC", "f1": "F1"}.get(kind, in_words(kind).capitalize())


def command_line(raw: Any) -> str:
    """Write a recorded command as it can be typed."""
    return shlex.join(str(part) for part in raw) if isinstance(raw, list | tuple) else str(raw)


def settings(record: RunRecord) -> list[tuple[str, str]]:
    """List the settings of a run record, by group."""
    return flatten(pick_groups(record, SETTINGS))
