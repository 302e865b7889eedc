"""The line of a search: on a terminal it counts trials and shows the best; elsewhere there is nothing."""

import io
import sys

import pytest

from classify.search.progress import show_trials


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with show_trials(3, 6) as advance:
        for best in (None, 0.61, 0.654):
            advance(best)
    return stream.getvalue()


def test_a_terminal_shows_trials_the_best_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, Terminal())
    assert "6/6" in said
    assert "best 0.654" in said


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == ""
