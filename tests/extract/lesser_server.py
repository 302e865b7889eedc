"""A small S3 server on loopback that answers as lesser servers do, and as sound ones when an account is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, dict[str, str], bytes]
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Please sign in<br></body></html>"


def md5_etag(data: bytes) -> str:
    return f'"{md5(data, usedforsecurity=False).hexdigest()}"'


def refuse(status: int, code: str, message: str = "as planned", **more: str) -> Answer:
    """Answer in S3's words."""
    rest = "".join(f"<{name}>{text}</{name}>" for name, text in more.items())
    return status, {}, f"<Error><Code>{code}</Code><Message>{message}</Message>{rest}</Error>".encode()


@dataclass
class Behaviour:
    """What a server holds, and in what it differs from a sound one.

    etag: of an object's bytes, "" for none. answer_get, answer_list: their own answer, or None for the usual one; they
    are given a key, or the query. damaged: keys whose bytes come with one bit flipped, always the same.
    """

    objects: dict[str, bytes]
    etag: Callable[[bytes], str] = md5_etag
    answer_get: Callable[[str], Answer | None] = lambda _: None
    answer_list: Callable[[dict[str, str]], Answer | None] = lambda _: None
    damaged: frozenset[str] = frozenset()
    gets: list[str] = field(default_factory=list)
    lists: int = 0


def listing(objects: dict[str, bytes], etag: Callable[[bytes], str], *, more: str = "false", token: str = "") -> Answer:
    """Answer with a page of these objects."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(data)}</Size><ETag>{etag(data)}</ETag></Contents>"
        for key, data in sorted(objects.items())
    )
    told = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    page = f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{told}{entries}</ListBucketResult>"
    return 200, {"Content-Type": "application/xml"}, page.encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        status, headers, body = self._list(parse_qs(url.query)) if not key else self._get(key)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's own naming

    def _list(self, query: dict[str, list[str]]) -> Answer:
        behaviour = self.server.behaviour
        behaviour.lists += 1
        asked = {name: values[0] for name, values in query.items()}
        return behaviour.answer_list(asked) or listing(behaviour.objects, behaviour.etag)

    def _get(self, key: str) -> Answer:
        behaviour = self.server.behaviour
        behaviour.gets.append(key)
        if own := behaviour.answer_get(key):
            return own
        if key not in behaviour.objects:
            return refuse(404, "NoSuchKey")
        data = behaviour.objects[key]
        etag = behaviour.etag(data)
        if etag.startswith("W/") and "If-Match" in self.headers:
            return refuse(412, "PreconditionFailed")
        headers = {"ETag": etag} if etag else {}
        if key in behaviour.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data)) + 1, len(data))
            return 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop]
        return 200, headers, data

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour

    def handle_error(self, *_: object) -> None:
        """A client may hang up."""


@contextmanager
def lesser_server(behaviour: Behaviour) -> Iterator[str]:
    """Serve; give the endpoint."""
    server = _Server(behaviour)
    Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
