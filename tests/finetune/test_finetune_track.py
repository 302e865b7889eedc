"""--track: the curves of a training in a tracker while it goes on, which it never stops and never doubles."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from finetune_study import options, table

from embeddings_store.errors import RunError, UsageError
from finetune.cli import main
from finetune.errors import StoppedError
from finetune.recipe.load import load_config
from finetune.run.tracked import MEASURED
from finetune.tracking.curves import FAILED, FINISHED, STOPPED, MlflowCurves, Point, TrackedRun, WandbCurves
from finetune.tracking.mirror import Mirror
from finetune.tracking.mlflow_client import quiet_mlflow
from finetune.tracking.mlflow_file import make_database
from finetune.tracking.places import Track, parse_track
from finetune.train import Finetuned, finetune
from finetune.training import loop

SHORT = load_config(None, changes=("batch_size=4", "stages.last.augment=0", "stages.head.patience=null"), epochs=2)
RUN = TrackedRun("", "training", {"recipe.batch_size": "4"}, {"octprobe.task": "four-class"})
POINTS = [Point({"head/train_loss": 1.0 / n}, step=n, order=n) for n in range(1, 5)]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow's migrations take seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with quiet_mlflow():
        make_database(file)
    return file


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def client_of(database: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(database)


def tracked_in(database: str) -> list[Any]:
    client = client_of(database)
    return list(client.search_runs([client.get_experiment_by_name("octprobe").experiment_id]))


def curves_of(database: str, run: Any) -> dict[str, list[tuple[int, float]]]:
    client = client_of(database)
    return {
        name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def expected(done: Finetuned) -> dict[str, list[tuple[int, float]]]:
    history = done.record.fitted.parameters["history"]
    return {
        f"{stage}/{name}": [(one["epoch"], one[name]) for one in history if one["stage"] == stage]
        for stage in ("head", "last")
        for name in MEASURED
    }


def train(bucket: Path, runs: Path, track: str, told: list[str]) -> Finetuned:
    asked = options(bucket, runs, config=SHORT, stages=("head", "last"), track=parse_track(track))
    done = finetune(asked, tell=told.append)
    assert done is not None
    return done


def test_every_epoch_of_every_stage_is_in_the_tracker_and_nobody_is(
    phantom: Path, tmp_path: Path, database: str
) -> None:
    told: list[str] = []
    done = train(phantom, tmp_path / "runs", database, told)
    (run,) = tracked_in(database)
    assert curves_of(database, run) == expected(done)
    assert run.info.status == FINISHED
    assert run.data.tags["octprobe.run"] == done.record.id
    assert (run.data.params["recipe.batch_size"], run.data.params["recipe.stages.last.epochs"]) == ("4", "2")
    assert not [name for name in run.data.params if name.startswith("recipe.stages.all")]
    told_of = {*run.data.params.values(), *run.data.tags.values()}
    assert not told_of & {*table(phantom)["participant_id"]}
    assert not [word for word in told_of if str(phantom) in word]
    assert not [line for line in told if "track" in line]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [done.record.id]


def test_a_resumed_training_goes_on_in_the_same_tracked_run(
    phantom: Path, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    real = loop._take_step

    def counted(*args: Any, **more: Any) -> Any:
        taken.append(1)
        if len(taken) == 14:  # 4 steps an epoch: in the second epoch of stage last
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **more)

    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(loop, "_take_step", counted)
        train(phantom, tmp_path / "runs", database, [])
    (run,) = tracked_in(database)
    assert run.info.status == STOPPED
    assert len(curves_of(database, run)["last/train_loss"]) == 1
    done = train(phantom, tmp_path / "runs", database, [])
    (run,) = tracked_in(database)
    assert curves_of(database, run) == expected(done)
    assert run.info.status == FINISHED
    train(phantom, tmp_path / "runs", database, [])
    assert len(tracked_in(database)) == 2, "the command given again after the end is another training"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_closed_port_is_noted_and_training_goes_on(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "planted-secret")
    told: list[str] = []
    done = train(phantom, tmp_path / "runs", f"http://127.0.0.1:{free_port()}", told)
    assert len(done.record.fitted.parameters["history"]) == 4
    noted, ended = (line for line in told if "--track" in line)
    assert "MLflow: expected a tracking store" in noted
    assert "training goes on" in noted
    assert "0 of 4 epochs were sent" in ended
    assert "planted-secret" not in "".join(told)


class Greeting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


def test_what_is_no_mlflow_is_one_message() -> None:
    with HTTPServer(("127.0.0.1", 0), Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RunError, match="MLflow: expected a tracking store"):
            MlflowCurves(Track("mlflow", f"http://127.0.0.1:{server.server_address[1]}"))
        server.shutdown()


class Remembering:
    """A tracker in memory. fails: what each call does before it does anything else."""

    def __init__(self, fails: Callable[[str], None] = lambda _: None, *, known: bool = False) -> None:
        self.fails, self.known = fails, known
        self.tokens: list[str] = []
        self.kept: list[Point] = []
        self.ended: list[tuple[str, Mapping[str, str]]] = []
        self.added = threading.Event()

    def begin(self, run: TrackedRun) -> bool:
        self.fails("begin")
        self.tokens.append(run.token)
        made, self.known = not self.known, True
        return made

    def add(self, points: Sequence[Point]) -> None:
        self.fails("add")
        self.kept += points
        self.added.set()

    def end(self, state: str, tags: Mapping[str, str]) -> None:
        self.fails("end")
        self.ended.append((state, tags))


def mirrored(
    keeper: Remembering, work: Path, told: list[str], points: Sequence[Point] = POINTS, *, inputs: str = "these",
    state: str = FINISHED, **more: Any,
) -> None:  # fmt: skip
    mirror = Mirror(Track("mlflow", "sqlite:///a.db"), told.append, lambda _: keeper, **more)
    mirror.begin(RUN, work, inputs)
    for count in range(1, len(points) + 1):
        keeper.added.clear()
        mirror.watch(points[:count])
        keeper.added.wait(0.2)
    mirror.end(state, {})


def test_what_a_server_missed_is_sent_when_it_is_back(tmp_path: Path) -> None:
    told: list[str] = []
    calls: list[str] = []

    def fail(call: str) -> None:
        calls.append(call)
        if calls.count("add") == 2 and call == "add":
            raise RunError("gone")

    keeper = Remembering(fail)
    mirrored(keeper, tmp_path, told)
    assert [point.order for point in keeper.kept] == [1, 2, 3, 4]
    assert all(point.time_ms > 0 for point in keeper.kept)
    assert calls.count("add") == 3, "after a failure it waits until the end, or for a minute"
    assert told == ["--track sqlite:///a.db: gone; training goes on, and the rest is sent when it answers"]
    assert keeper.ended == [(FINISHED, {})]


@pytest.mark.parametrize(("took", "tries"), [(1.0, 4), (100.0, 2)])
def test_a_server_that_was_slow_to_fail_is_left_alone_for_longer(tmp_path: Path, took: float, tries: int) -> None:
    now, calls = [0.0], list[str]()

    def fail(call: str) -> None:
        calls.append(call)
        if call == "add":
            now[0] += took if calls.count("add") == 1 else 70.0
            if calls.count("add") == 1:
                raise RunError("gone")

    def clock() -> float:
        now[0] += 20.0  # between epochs
        return now[0]

    keeper = Remembering(fail)
    mirrored(keeper, tmp_path, [], clock=clock)
    assert [point.order for point in keeper.kept] == [1, 2, 3, 4]
    assert calls.count("add") <= tries


def test_one_that_stays_away_is_told_at_the_end(tmp_path: Path) -> None:
    def fail(call: str) -> None:
        raise RunError("gone")

    told: list[str] = []
    mirrored(Remembering(fail), tmp_path, told)
    assert len(told) == 2
    assert "0 of 4 epochs were sent" in told[1]


def test_one_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    forever, told = threading.Event(), list[str]()
    mirrored(Remembering(lambda _: forever.wait(20) and None), tmp_path, told, last_wait_s=0.1)
    forever.set()
    assert "0 of 4 epochs were sent" in told[0]


def test_a_training_that_goes_on_sends_what_is_new_and_to_a_tracker_that_forgot_everything(tmp_path: Path) -> None:
    first = Remembering()
    mirrored(first, tmp_path, [], POINTS[:2], state=STOPPED)
    second = Remembering(known=True)
    mirrored(second, tmp_path, [])
    assert [point.order for point in second.kept] == [3, 4]
    assert first.tokens[0] == second.tokens[0]
    forgot = Remembering()
    mirrored(forgot, tmp_path, [])
    assert [point.order for point in forgot.kept] == [1, 2, 3, 4]
    assert [one.time_ms for one in forgot.kept[:2]] == [one.time_ms for one in first.kept]
    other = Remembering()
    mirrored(other, tmp_path, [], inputs="other volumes")
    assert other.tokens[0] != first.tokens[0]


def test_a_full_disk_for_the_note_of_what_was_sent_stops_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    mirrored(Remembering(), tmp_path / "file" / "work", told, POINTS[:1])
    assert "what was sent cannot be noted" in told[0]


def test_a_failed_training_is_marked(phantom: Path, tmp_path: Path, database: str) -> None:
    diverging = load_config(SHORT, changes=("stages.head.learning_rate=1e30",))
    asked = options(phantom, tmp_path / "runs", config=diverging, stages=("head",), track=parse_track(database))
    with pytest.raises(RunError, match="not finite"):
        finetune(asked, tell=lambda _: None)
    assert [run.info.status for run in tracked_in(database)] == [FAILED]


@pytest.mark.parametrize(
    ("text", "track"),
    [
        ("mlflow", ("mlflow", "sqlite:///mlflow.db")),
        ("sqlite:////a/b.db", ("mlflow", "sqlite:////a/b.db")),
        ("https://host:5000/x", ("mlflow", "https://host:5000/x")),
        ("wandb", ("wandb", ".")),
        ("wandb:/some/where", ("wandb", "/some/where")),
    ],
)
def test_a_tracker_is_named_by_its_address(text: str, track: tuple[str, str]) -> None:
    found = parse_track(text)
    assert (found.to, found.where) == track


@pytest.mark.parametrize("text", ["", "./mlruns", "htp://host", "wandb://host", "MLflow", "sqlite:", "ftp://host/x"])
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--track: expected mlflow"):
        parse_track(text)


@pytest.mark.parametrize("text", ["http://me:planted-secret@host", "https://host/?token=planted-secret"])
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="--track: expected a plain URL") as refused:
        parse_track(text)
    assert "planted-secret" not in str(refused.value)


@pytest.mark.parametrize(("track", "package"), [("mlflow", "mlflow"), ("wandb:x", "wandb")])
def test_a_missing_extra_is_named_before_anything_is_read(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], track: str,
    package: str,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", [
        "finetune", "--bucket", str(phantom), "--participants", str(phantom / "participants.tsv"), "--encoder",
        "random:tiny", "--device", "cpu", "--runs", str(tmp_path / "runs"), "--track", track,
    ])  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert f"{package} is not installed: pip install 'octprobe[{package}]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_nothing_but_the_tracker_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: str) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    keeper = MlflowCurves(parse_track(database))
    assert keeper.begin(TrackedRun("abc", "training", RUN.parameters, RUN.tags))
    keeper.add(POINTS)
    keeper.add(POINTS[-1:])
    assert not MlflowCurves(parse_track(database)).begin(TrackedRun("abc", "training", {}, {}))
    keeper.end(FINISHED, {})
    (run,) = tracked_in(database)
    assert len(curves_of(database, run)["head/train_loss"]) == 4, "what is sent again is kept once"


def test_the_check_of_the_extra_imports_nothing() -> None:
    code = "import sys; from finetune.tracking.places import Track; Track('mlflow', 'mlflow').require_installed(); "
    done = subprocess.run([sys.executable, "-c", code + "sys.exit('mlflow' in sys.modules)"], check=False)
    assert done.returncode == 0


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    pytest.importorskip("wandb", reason="W&B is not installed (extra wandb)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "own"))
    yield


def test_wandb_keeps_the_curves_too(tmp_path: Path, offline: None) -> None:
    keeper = WandbCurves(Track("wandb", str(tmp_path / "copies")))
    assert not keeper.begin(TrackedRun("abc123", "training", RUN.parameters, RUN.tags))
    keeper.add(POINTS)
    keeper.end(FINISHED, {"octprobe.run": "the-run"})
    (file,) = (tmp_path / "copies" / "wandb").glob("offline-run-*-abc123/run-abc123.wandb")
    written = file.read_bytes()
    for word in (b"head/train_loss", b"recipe.batch_size", b"the-run"):
        assert word in written
    assert socket.gethostname().encode() not in written
