"""The verb ``reports serve``: a read-only dashboard of runs and pages, on loopback unless told otherwise.

No address holds a participant: pages are named by the start of a digest of their file's name, with a key that each
server draws anew, so that nobody can try the digests of all numbers.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embeddings_store.errors import RunError, UsageError
from reports.encoders import encoder_part
from reports.headline import spell
from reports.ledger import say_resplits
from reports.model_card import CARD
from reports.page import render
from reports.runs import PRIMARY_LEVEL, PRIMARY_METRIC, read_runs

HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Dashboard:
    """What is served: the runs of one folder, and the pages (HTML) of another.

    key: secret of this server, 16 random bytes. mlflow: address of its own page.
    """

    runs: Path
    pages: Path
    key: bytes
    mlflow: str | None = None

    def index(self) -> str:
        """List runs and pages as they are now."""
        runs = read_runs(self.runs)
        lines = [
            (
                run.id,
                run.model,
                run.record.asked.task,
                spell(run.estimate(PRIMARY_LEVEL, "val", PRIMARY_METRIC)),
                spell(run.difference(PRIMARY_METRIC), signed=True),
            )
            for run in reversed(runs)
        ]
        context = {
            "runs": lines,
            "pages": [(self.page_id(path.name), page_title(path)) for path in self.html_files()],
            "mlflow": self.mlflow,
            "phantom": any(run.is_phantom for run in runs),
            "resplits": say_resplits(runs),
            **encoder_part(runs),
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "version": version("octprobe"),
        }
        return render("dashboard.html.j2", context)

    def html_files(self) -> list[Path]:
        """List the pages that may be shown: HTML files that lie in the folder itself."""
        return sorted(path for path in self.pages.glob("*.html") if path.is_file() and not path.is_symlink())

    def find(self, wanted: str) -> Path | None:
        """Find a page by its id; nothing else of the disk can be asked for."""
        return next((path for path in self.html_files() if self.page_id(path.name) == wanted), None)

    def page_id(self, name: str) -> str:
        """Name a page in an address: 12 hex digits, from which no participant can be read."""
        return hmac.digest(self.key, name.encode(), "sha256").hex()[:12]


def page_title(path: Path) -> str:
    """Name a page on the dashboard."""
    return path.stem.replace("-", " ")


def new_server(dashboard: Dashboard, host: str, port: int) -> ThreadingHTTPServer:
    """Open the port; serve_forever answers. port 0: any free one.

    Raises: UsageError where a folder is missing, RunError where the port cannot be opened.
    """
    for name, folder in (("--runs", dashboard.runs), ("--pages", dashboard.pages)):
        if not folder.is_dir():
            raise UsageError(f"{name} {folder}: expected a folder, found none")
    try:
        return ThreadingHTTPServer((host, port), _handler_of(dashboard))
    except OSError as error:
        raise RunError(f"--port {port}: cannot be opened on {host}: {error.strerror}; choose another") from error


def _handler_of(dashboard: Dashboard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """GET / is the dashboard, GET /page/<id> a page; everything else is 404, every other method 501."""

        server_version = "octprobe"
        sys_version = ""

        def do_GET(self) -> None:
            """Answer."""
            wanted = self.path.removeprefix("/page/")
            if self.path == "/":
                self._answer(dashboard.index)
            elif self.path.startswith("/page/") and (page := dashboard.find(wanted)) is not None:
                self._answer(page.read_text)
            elif wanted == CARD and (card := dashboard.find(dashboard.page_id(CARD))) is not None:
                self._answer(card.read_text)  # the one link from page to page, by file name
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, make: Callable[[], str]) -> None:
            try:
                body = make().encode()
            except (OSError, RunError, UsageError) as error:
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", HTML)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            """Log nothing: an address book of who looked at whom is nobody's business."""

    return Handler
