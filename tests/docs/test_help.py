"""The help of every command teaches: an example that can be typed, defaults, grouped options, completion."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_options import Script, named_options, scripts

SCRIPTS = sorted({name.split()[0] for name in scripts()})
FEWEST_TO_GROUP = 10  # options below which a single list is read at a glance
MARKUP = re.compile(r"\[[a-z#/@]")
ALWAYS = {"help", "install_completion", "show_completion"}


def lacks(script: Script) -> list[str]:
    """Name what the help of one command does not say."""
    command = script.command
    options = [one for one in command.params if one.param_type_name == "option" and one.name not in ALWAYS]
    groups = {getattr(one, "rich_help_panel", None) for one in options}
    found = []
    if not groups_only(script) and not examples(script):
        found.append("no example")
    found += [f"{one.opts[0]} has no words" for one in options if not one.help]
    found += [f"{one.opts[0]}: rich takes [words] for markup" for one in options if MARKUP.search(one.help or "")]
    found += [f"{one.opts[0]} hides its default" for one in options if tells_nothing(one)]
    if len(options) >= FEWEST_TO_GROUP and len(groups) < 2:
        found.append("options are not grouped")
    return found


def groups_only(script: Script) -> bool:
    """A script that only holds commands needs no example of its own."""
    return bool(getattr(script.command, "commands", None)) and not script.command.invoke_without_command


def examples(script: Script) -> list[str]:
    """Give the lines of the help that can be typed; they begin with the command's own name."""
    text = " ".join((script.command.help or "").replace("\b", "").split())
    return re.findall(rf"Example: (?:[A-Z_]+=\S+ )*({script.name} .*?)(?:$|(?<=[a-z0-9_/])\s(?=[A-Z][a-z]+ ))", text)


def tells_nothing(option: object) -> bool:
    shown, default = getattr(option, "show_default", True), getattr(option, "default", None)
    return default not in (None, False, "", ()) and shown is False


@pytest.mark.parametrize("script", scripts().values(), ids=lambda script: script.name)
def test_a_command_teaches(script: Script) -> None:
    assert lacks(script) == []


@pytest.mark.parametrize("script", scripts().values(), ids=lambda script: script.name)
def test_the_example_names_options_that_exist(script: Script) -> None:
    for example in examples(script):
        assert [word for name, word in named_options(example) if word not in scripts()[name].options] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_can_complete(name: str, tmp_path: Path) -> None:
    program, variable = Path(sys.executable).parent / name, f"_{name.replace('-', '_').upper()}_COMPLETE"
    asked = {"COMP_WORDS": f"{name} --he", "COMP_CWORD": "1", variable: "complete_bash", "HOME": str(tmp_path)}
    done = subprocess.run([program], env=os.environ | asked, capture_output=True, text=True, check=False)
    assert "--help" in done.stdout.split(), done.stderr
    # Typer asks which shell this is; where it is told not to, the option takes the shell's name.
    told = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    asked_for = {what: [program, f"--{what}-completion", "bash"] for what in ("show", "install")}
    shown = subprocess.run(asked_for["show"], env=told, capture_output=True, text=True, check=True).stdout
    subprocess.run(asked_for["install"], env=told, capture_output=True, check=True)
    (installed,) = tmp_path.rglob(f"{name}.sh")
    for script in (shown, installed.read_text()):
        assert f"complete -o default -F _{name.replace('-', '_')}" in script
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
