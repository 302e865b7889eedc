"""docs/commands.md is what the commands say of themselves today."""

import runpy

from command_options import scripts
from markdown_pages import ROOT, read_page

MADE = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["write_page"]()
PAGE = ROOT / "docs" / "commands.md"


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == MADE, "make it again: python docs/make_commands.py"


def test_every_command_and_option_is_on_the_page() -> None:
    assert set(scripts()) <= set(read_page(PAGE).headings)
    words = {word for text in read_page(PAGE).words for word in text.split(", ")}
    shown = {option for script in scripts().values() for one in visible(script.command) for option in one.opts}
    assert shown <= words


def visible(command: object) -> list[object]:
    return [one for one in command.params if one.param_type_name == "option" and not one.hidden and one.name != "help"]
