"""The bar: on a terminal, on stderr; a log and a pipe see nothing of it."""

import sys

import pytest

from embeddings_store.terminal.progress import row_bar


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_terminals_only(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with row_bar("rows checked") as progress:
        for done in range(1, 4):
            progress(done, 3)
    told = capsys.readouterr()
    assert told.out == ""
    assert ("rows checked" in told.err and "3/3" in told.err) if terminal else told.err == ""
