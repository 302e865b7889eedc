import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from simulated_run import build_run

from embeddings_store.errors import RunError, UsageError
from reports.serve import Dashboard, new_server

KEY = b"sixteen letters."
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[HTTPConnection, Path]]:
    runs, pages = tmp_path / "runs", tmp_path / "pages"
    build_run(runs, "20261120-linear-a", model="linear")
    pages.mkdir()
    (pages / "case-1001.html").write_text("<p>the page</p>")
    (tmp_path / "secret.html").write_text("secret")
    (pages / "linked.html").symlink_to(tmp_path / "secret.html")
    server = new_server(Dashboard(runs, pages, KEY, "http://127.0.0.1:5000"), "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
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
    assert get(served[0], address)[1] == "<p>the page</p>"


@pytest.mark.parametrize("path", ["/secret.html", "/page/../secret.html", "/page/%2e%2e/secret.html", "/page/0", "/x",
                                  "/page/case-1001.html"])  # fmt: skip
def test_nothing_else_of_the_disk_can_be_asked_for(served: tuple[HTTPConnection, Path], path: str) -> None:
    response, text = get(served[0], path)
    assert response.status == 404
    assert "secret" not in text.replace("secret.html", "")


def test_links_out_of_the_folder_are_not_followed(served: tuple[HTTPConnection, Path]) -> None:
    assert get(served[0], f"/page/{name_of('linked.html')}")[0].status == 404


def test_a_page_links_the_model_card_by_its_file_name(served: tuple[HTTPConnection, Path]) -> None:
    (served[1] / "model-card.html").write_text("<p>card</p>")
    assert get(served[0], "/page/model-card.html")[1] == "<p>card</p>"


def test_addresses_cannot_be_guessed_from_a_participant() -> None:
    other = Dashboard(Path(), Path(), b"another sixteen.")
    assert other.page_id("case-1001.html") != name_of("case-1001.html")


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "a", model="linear", task=HOSTILE)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / f"case-{HOSTILE}.html").write_text("")
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
