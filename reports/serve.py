"""The verb ``reports serve``: a read-only dashboard of runs and pages, on loopback unless told otherwise.

No address holds a participant: pages are named by the start of a digest of their file's name, with a key that each
server draws anew, so that nobody can try the digests of all numbers.
"""

import hmac
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from socket import SHUT_RDWR, socket
from socketserver import TCPServer
from threading import BoundedSemaphore
from time import monotonic
from typing import Any

from embeddings_store.errors import RunError, UsageError
from reports.encoders import encoder_part
from reports.headline import spell
from reports.ledger import say_resplits
from reports.model_card import CARD
from reports.page import content_policy, is_page, render
from reports.runs import LeftOut, read_runs, say_left_out

HTML = "text/html; charset=utf-8"
HEADERS = {
    "Content-Security-Policy": f"{content_policy()}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
MOST_CLIENTS = 32
READ_S, IDLE_S = 10.0, 10.0
ANSWER_S = 300.0  # a page of 20 MB over 0.6 Mbit/s
CHUNK_BYTES = 65_536
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only compared with what the user chose


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
        left_out: list[LeftOut] = []
        runs = read_runs(self.runs, tell=left_out.append)
        lines = [
            (
                run.id,
                run.model,
                run.record.asked.task,
                spell(run.estimate(run.level, "val", run.primary)),
                spell(run.difference(run.primary), signed=True),
            )
            for run in reversed(runs)
        ]
        context = {
            "runs": lines,
            "left_out": say_left_out(left_out),
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
        """List what may be shown: pages of ours that lie in the folder itself, none of them hidden or a link."""
        return sorted(path for path in self.pages.glob("[!.]*.html") if _is_shown(path))

    def find(self, wanted: str) -> Path | None:
        """Find a page by its id; nothing else of the disk can be asked for."""
        return next((path for path in self.html_files() if self.page_id(path.name) == wanted), None)

    def page_id(self, name: str) -> str:
        """Name a page in an address: 12 hex digits, from which no participant can be read."""
        return hmac.digest(self.key, name.encode(), "sha256").hex()[:12]


def _is_shown(path: Path) -> bool:
    """Return whether a file is a page of ours, whole, in UTF-8."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        text = path.read_bytes()
        text.decode()
    except (OSError, UnicodeDecodeError):
        return False
    return is_page(text)


def page_title(path: Path) -> str:
    """Name a page on the dashboard."""
    return path.stem.replace("-", " ")


class _Handler(BaseHTTPRequestHandler):
    """GET / is the dashboard, GET /page/<id> a page, HEAD their headers; all else is 404, other methods 501."""

    server: "PageServer"
    server_version = "octprobe"
    sys_version = ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer."""
        self.server.has_come(self.connection)
        board, wanted = self.server.dashboard, self.path.removeprefix("/page/")
        if not self.server.is_ours(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN, "another host was asked for")
        elif self.path == "/":
            self._answer(lambda: board.index().encode())
        elif self.path.startswith("/page/") and (page := board.find(wanted)) is not None:
            self._answer(page.read_bytes)
        elif wanted == CARD and (card := board.find(board.page_id(CARD))) is not None:
            self._answer(card.read_bytes)  # the one link from page to page, by file name
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def _answer(self, make: Callable[[], bytes]) -> None:
        try:
            body = make()
        except (OSError, RunError, UsageError) as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", HTML)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            for start in range(0, len(body), CHUNK_BYTES):  # each of them within the time limit
                self.wfile.write(body[start : start + CHUNK_BYTES])

    def end_headers(self) -> None:
        """Add to every answer, errors too, what a browser must not do with it."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Log nothing: an address book of who looked at whom is nobody's business."""


class PageServer(ThreadingHTTPServer):
    """Answers at most MOST_CLIENTS at a time.

    A request that has not come whole after READ_S seconds is cut off, and so is an answer not taken after ANSWER_S.
    """

    request_queue_size = 128

    def __init__(self, dashboard: Dashboard, host: str, port: int) -> None:
        """Open the port of this host; port 0 is any free one. Raises: OSError."""
        self._slots = BoundedSemaphore(MOST_CLIENTS)
        self._until: dict[socket, float] = {}
        self.dashboard = dashboard
        super().__init__((host, port), _Handler)
        self._names = {host.lower(), str(self.server_address[0])}

    def server_bind(self) -> None:
        """Bind, without asking the network for the name of this machine, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def is_ours(self, asked: str) -> bool:
        """Return whether a Host header names this server, so that no other name of a network leads here.

        Bound to every address it answers to any address in digits: a name that was bound anew is never one.
        """
        name, _, port = asked.lower().rpartition(":")
        if port != str(self.server_port):
            return False
        if self._names & LOOPBACK:
            return name in LOOPBACK
        return name in self._names or (EVERYWHERE in self._names and (name in LOOPBACK or _is_address(name)))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or hang up where as many as may be are being answered."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._until[request] = monotonic() + READ_S
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one client, then let the next one in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._until.pop(request, None)
            self._slots.release()

    def has_come(self, request: socket) -> None:
        """Take note that a request is whole, and that its answer has to be taken within a longer time."""
        self._until[request] = monotonic() + ANSWER_S

    def service_actions(self) -> None:
        """Cut off who sends a request, or takes its answer, too slowly; called twice a second."""
        now = monotonic()
        for request, until in list(self._until.items()):
            if now > until:
                with suppress(OSError):
                    request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up; anything else is a fault of ours and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def new_server(dashboard: Dashboard, host: str, port: int) -> PageServer:
    """Open the port; serve_forever answers. port 0: any free one.

    Raises: UsageError where a folder is missing, RunError where the port cannot be opened.
    """
    for name, folder in (("--runs", dashboard.runs), ("--pages", dashboard.pages)):
        if not folder.is_dir():
            raise UsageError(f"{name} {folder}: expected a folder, found none")
    try:
        return PageServer(dashboard, host, port)
    except OSError as error:
        raise RunError(f"--port {port}: cannot be opened on {host}: {error.strerror}; choose another") from error
