"""Console scripts without their start: one process imports everything once, and forks for every command that is typed.

Starting Python with torch and pandas takes longer than what most commands of the pages do. A program of the same name
as each console script, and one named python, hands its words, folder, environment and streams to that process, and
leaves with its exit code.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parent.parent))  # where it runs as a program
from console_scripts import console_scripts

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("octprobe", "embeddings_store", "extract", "classify", "finetune", "reports")
SCRIPTS = ("extract-embeddings", "classify", "finetune", "reports", "oct-phantom")
IMPORTED = (
    "extract.pipeline", "extract.dry_run", "extract.doctor.run", "extract.doctor.show", "extract.single",
    "extract.phantom.bucket", "classify.probe", "classify.compare", "classify.predict", "classify.evaluate",
    "classify.learning_curve", "classify.comparing.study_tables", "embeddings_store.verify", "embeddings_store.export",
    "embeddings_store.derive", "finetune.train", "reports.study", "reports.case", "boto3",
)  # fmt: skip
READY = b"ready"
CLIENT = """#!{python} -IS
import json, os, socket, sys
asked = {{"name": "{name}", "words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as line:
    line.connect("{address}")
    socket.send_fds(line, [json.dumps(asked).encode() + b"\\n"], [0, 1, 2])
    answer = line.recv(16)
sys.exit(int(answer) if answer else 70)
"""


@contextmanager
def warm_scripts(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Give a folder of programs that answer as long as the block lasts."""
    folder.mkdir()
    address = str(folder / "line")
    for name in (*SCRIPTS, "python"):
        (folder / name).write_text(CLIENT.format(python=sys.executable, name=name, address=address))
        (folder / name).chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, address], env=environment, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().strip() == READY
            yield folder
        finally:
            server.kill()


def load_scripts() -> dict[str, Callable[[], object]]:
    return {point.name: point.load() for point in console_scripts() if point.name in SCRIPTS}


def _serve(address: str) -> NoReturn:
    loaded = load_scripts()
    for module in IMPORTED:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a child: its answer says that it is done
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        os.write(1, READY + b"\n")
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _answer(line, loaded)
            line.close()


def _answer(line: socket.socket, loaded: dict) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    body, streams, _, _ = socket.recv_fds(line, 1 << 16, 3)
    while not body.endswith(b"\n"):
        body += line.recv(1 << 16)
    asked = json.loads(body)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # Those of the server know its own files, such as whether one can be searched in.
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [asked["name"], *asked["words"]]
    code: object = 1
    try:
        code = _run(asked, loaded)
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 - as the interpreter itself does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        line.sendall(str(code if isinstance(code, int) else int(code is not None)).encode())
        os._exit(0)


def _run(asked: Mapping[str, Any], loaded: Mapping[str, Callable[[], object]]) -> object:
    """Do what was typed; packages in another folder than ours, which a page changes, are read from there."""
    if (source := asked["environment"]["PYTHONPATH"]) != str(ROOT):
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        sys.path.insert(0, source)
        loaded = load_scripts()
    return _python(*asked["words"]) if asked["name"] == "python" else loaded[asked["name"]]()


def _python(first: str, *more: str) -> None:
    """Run a file, or the text after -c, whose warnings are errors."""
    sys.path.insert(0, str(Path.cwd()))
    if first != "-c":
        runpy.run_path(first, run_name="__main__")
        return
    warnings.simplefilter("error")
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(more[0], "<string>", "exec"), vars(main))


if __name__ == "__main__":
    _serve(sys.argv[1])
