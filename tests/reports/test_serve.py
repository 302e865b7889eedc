import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from simulated_run import build_run

from embeddings_store.errors import RunError, UsageError
from reports import serve
from reports.serve import HEADERS, Dashboard, new_server

KEY = b"sixteen letters."
PAGE = '<div class="use-only"></div><p>the page</p>'
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[HTTPConnection, Path]]:
    runs, pages = tmp_path / "runs", tmp_path / "pages"
    build_run(runs, "20261120-linear-a", model="linear")
    pages.mkdir()
    (pages / "case-1001.html").write_text(PAGE)
    (tmp_path / "secret.html").write_text(f"{PAGE} secret")
    (pages / "linked.html").symlink_to(tmp_path / "secret.html")
    server = new_server(Dashboard(runs, pages, KEY, "http://127.0.0.1:5000"), "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    connection = HTTPConnection("127.0.0.1", server.server_port)
    yield connection, pages
    connection.close()
    server.shutdown()
    server.server_close()


def name_of(page: str) -> str:
    return Dashboard(Path(), Path(), KEY).page_id(page)


def get(connection: HTTPConnection, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
    connection.request(method, path)
    response = connection.getresponse()
    return response, response.read().decode()


def test_the_dashboard_lists_runs_and_pages_without_participants_in_addresses(
    served: tuple[HTTPConnection, Path],
) -> None:
    response, text = get(served[0], "/")
    assert response.status == 200
    assert "Balanced accuracy" in text
    assert 'href="http://127.0.0.1:5000"' in text
    address = f"/page/{name_of('case-1001.html')}"
    assert f'href="{address}"' in text
    assert "1001" not in address
    assert get(served[0], address)[1] == PAGE


@pytest.mark.parametrize("path", ["/secret.html", "/page/../secret.html", "/page/%2e%2e/secret.html", "/page/0", "/x",
                                  "/page/case-1001.html"])  # fmt: skip
def test_nothing_else_of_the_disk_can_be_asked_for(served: tuple[HTTPConnection, Path], path: str) -> None:
    response, text = get(served[0], path)
    assert response.status == 404
    assert "secret" not in text.replace("secret.html", "")


def test_links_out_of_the_folder_are_not_followed(served: tuple[HTTPConnection, Path]) -> None:
    assert get(served[0], f"/page/{name_of('linked.html')}")[0].status == 404


def test_a_page_links_the_model_card_by_its_file_name(served: tuple[HTTPConnection, Path]) -> None:
    (served[1] / "model-card.html").write_text(PAGE)
    assert get(served[0], "/page/model-card.html")[1] == PAGE


def test_addresses_cannot_be_guessed_from_a_participant() -> None:
    other = Dashboard(Path(), Path(), b"another sixteen.")
    assert other.page_id("case-1001.html") != name_of("case-1001.html")


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "a", model="linear", task=HOSTILE)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / f"case-{HOSTILE}.html").write_text(PAGE)
    text = Dashboard(tmp_path / "runs", tmp_path / "pages", KEY, f'"{HOSTILE}').index()
    assert "<img" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_read_only(served: tuple[HTTPConnection, Path], method: str) -> None:
    assert get(served[0], "/", method)[0].status == 501


def test_a_missing_folder_and_a_taken_port_are_told(served: tuple[HTTPConnection, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pages"):
        new_server(Dashboard(tmp_path, tmp_path / "none", KEY), "127.0.0.1", 0)
    with pytest.raises(RunError, match="--port"):
        new_server(Dashboard(tmp_path, tmp_path, KEY), "127.0.0.1", served[0].port)


def test_only_its_own_name_is_answered(served: tuple[HTTPConnection, Path]) -> None:
    port = served[0].port
    for host in (f"evil.example:{port}", "127.0.0.1:1", "127.0.0.1", "evil.example", "", f"[::1]:{port}", f"0:{port}",
                 f"127.0.0.1.evil.example:{port}"):  # fmt: skip
        for path in ("/", "/page/model-card.html", "/x"):
            served[0].putrequest("GET", path, skip_host=True)
            served[0].putheader("Host", host)
            served[0].endheaders()
            response = served[0].getresponse()
            assert (response.status, "Balanced" in response.read().decode()) == (403, False), host


def test_loopback_has_two_names(served: tuple[HTTPConnection, Path]) -> None:
    served[0].request("GET", "/", headers={"Host": f"localhost:{served[0].port}"})
    assert served[0].getresponse().status == 200


@pytest.mark.parametrize("asked, answers", [("192.0.2.7", True), ("localhost", True), ("evil.example", False)])
def test_bound_to_every_address_it_answers_to_digits_alone(tmp_path: Path, asked: str, answers: bool) -> None:
    with new_server(Dashboard(tmp_path, tmp_path, KEY), "0.0.0.0", 0) as server:
        assert server.is_ours(f"{asked}:{server.server_port}") is answers


@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_every_answer_carries_the_security_headers(served: tuple[HTTPConnection, Path], path: str) -> None:
    response, _ = get(served[0], path)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_head_gives_headers_alone(served: tuple[HTTPConnection, Path]) -> None:
    response, text = get(served[0], f"/page/{name_of('case-1001.html')}", "HEAD")
    assert (response.status, response.headers["Content-Length"], text) == (200, str(len(PAGE)), "")


@pytest.mark.parametrize("name, content", [(".hidden.html", PAGE.encode()), ("foreign.html", b"<p>mine</p>"),
                                           ("latin.html", PAGE.encode() + b"\xe9"), ("empty.html", b"")])  # fmt: skip
def test_other_files_are_neither_listed_nor_served(
    served: tuple[HTTPConnection, Path], name: str, content: bytes
) -> None:
    (served[1] / name).write_bytes(content)
    assert name_of(name) not in get(served[0], "/")[1]
    assert get(served[0], f"/page/{name_of(name)}")[0].status == 404


def test_a_page_is_served_byte_for_byte(served: tuple[HTTPConnection, Path]) -> None:
    text = f"{PAGE} Müller 中".encode()
    (served[1] / "umlaut.html").write_bytes(text)
    served[0].request("GET", f"/page/{name_of('umlaut.html')}")
    assert served[0].getresponse().read() == text


def test_slow_clients_hold_no_thread_and_no_one_else_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "READ_S", 0.3)
    monkeypatch.setattr(serve, "MOST_CLIENTS", 5)
    server = new_server(Dashboard(tmp_path, tmp_path, KEY), "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    before = threading.active_count()
    slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(40)]
    for one in slow:
        one.sendall(b"GET / HT")
        one.settimeout(6)  # less than a silent client may take anyway
    assert threading.active_count() - before <= 5
    for one in slow:  # hung up on, without an answer
        with suppress(ConnectionResetError):
            assert one.recv(100) == b""
        one.close()
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    assert get(connection, "/nothing")[0].status == 404
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/" + "a" * 70_000, "/page/" + "%00" * 100, "//evil.example/", "/page/\udc80"])
def test_odd_addresses_get_one_clean_answer(served: tuple[HTTPConnection, Path], path: str) -> None:
    with socket.create_connection(("127.0.0.1", served[0].port or 0)) as line:
        line.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{served[0].port}\r\n\r\n".encode(errors="replace"))
        answer = line.recv(100)
    assert answer.startswith((b"HTTP/1.0 404", b"HTTP/1.0 414"))


def test_who_takes_an_answer_in_drops_holds_no_slot_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ANSWER_S", 0.3)
    monkeypatch.setattr(serve, "MOST_CLIENTS", 1)
    (tmp_path / "page.html").write_text(PAGE + "x" * (64 << 20))
    server = new_server(Dashboard(tmp_path, tmp_path, KEY), "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    asked = f"GET /page/{name_of('page.html')} HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n"
    came = 0
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as slow:
        slow.sendall(asked.encode())
        threading.Event().wait(1.0)  # it takes what fits into the line, and no more
        with suppress(ConnectionResetError):
            while got := slow.recv(1 << 20):
                came += len(got)
    assert came < 64 << 20, "it was cut off"
    while server._slots._value == 0:
        threading.Event().wait(0.02)
    server.shutdown()
    server.server_close()
