"""Curves on their way to a tracker while a training goes on, which waits for none of it and is stopped by none of it.

A thread of its own sends. Where the tracker does not answer, that is noted once; what is missing is sent when it does,
at the latest at the end. What was sent stands in a file beside the training state, so that a resumed run goes on in the
same tracked run.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

from embeddings_store.documents import parse_object
from embeddings_store.errors import RunError
from embeddings_store.publish import published
from finetune.tracking.curves import FINISHED, LAST_WAIT_S, STOPPING_WAIT_S, CurveKeeper, Point, TrackedRun, open_curves
from finetune.tracking.places import Track

LEAST_PAUSE_S = 60.0
PAUSE_TIMES = 20
"""After a failure the next try waits so many times as long as it took: a server that hangs is left alone."""


class Mirror:
    """Sends the points of one training. open_it: for the tests."""

    def __init__(
        self, track: Track, tell: Callable[[str], None], open_it: Callable[[Track], CurveKeeper] = open_curves,
        *, last_wait_s: float = LAST_WAIT_S, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._track, self._tell, self._open, self._clock = track, tell, open_it, clock
        self._last_wait_s = last_wait_s
        self._run: TrackedRun | None = None
        self._sent: _Sent | None = None
        self._points: tuple[Point, ...] = ()
        self._ended: tuple[str, Mapping[str, str]] | None = None
        self._keeper: CurveKeeper | None = None
        self._begun = self._is_whole = self._is_noted = False
        self._again_at = clock()
        self._woken, self._closing = Event(), Event()
        self._woken.set()  # the place is opened before anything is read
        self._thread = Thread(target=self._serve, name="tracker", daemon=True)
        self._thread.start()

    def begin(self, run: TrackedRun, work: Path, inputs: str) -> None:
        """Say what is trained. The token is that of the training's first time.

        work: a folder that a resumed training finds again; inputs: names what it learns from, as its state does.
        """
        named = sha256(f"{self._track} {inputs}".encode()).hexdigest()[:8]
        self._sent = _Sent.read(work / f"tracked-{named}.json")
        self._run = replace(run, token=self._sent.token)
        self._woken.set()

    def watch(self, points: Sequence[Point]) -> None:
        """Take the points of all epochs so far. An epoch keeps the time at which it was first seen."""
        assert self._sent is not None  # noqa: S101 - begin comes first
        times = self._sent.times_ms
        times += [round(1000 * time.time())] * (len(points) - len(times))
        self._points = tuple(replace(point, time_ms=times[number]) for number, point in enumerate(points))
        self._woken.set()

    def end(self, state: str, tags: Mapping[str, str]) -> None:
        """Send what is left, within a time, and say what could not be sent."""
        self._ended = (state, tags)
        self._closing.set()
        self._woken.set()
        if self._run is None or self._sent is None:
            return
        self._thread.join(self._last_wait_s if state == FINISHED else STOPPING_WAIT_S)
        if not self._is_whole:
            way = "the run's record holds them all" if state == FINISHED else "a run that goes on sends the others"
            self._tell(f"--track {self._track}: {self._sent.count} of {len(self._points)} epochs were sent; {way}")

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._woken.wait()
            self._woken.clear()
            if self._clock() >= self._again_at:
                self._try_to_send()
        self._try_to_send()

    def _try_to_send(self) -> None:
        begun = self._clock()
        try:
            self._send()
        except RunError as error:
            self._keeper, self._begun = None, False
            self._again_at = self._clock() + max(LEAST_PAUSE_S, PAUSE_TIMES * (self._clock() - begun))
            if not self._is_noted:
                self._is_noted = True
                self._tell(f"--track {self._track}: {error}; training goes on, and the rest is sent when it answers")

    def _send(self) -> None:
        ended, points = self._ended, self._points
        self._keeper = self._keeper or self._open(self._track)
        if self._run is None or self._sent is None:
            return
        if not self._begun:
            self._sent.write(self._sent.count)  # a training that is killed now is found again by its token
            if self._keeper.begin(self._run):
                self._sent.count = 0
            self._begun = True
        if missing := points[self._sent.count :]:
            self._keeper.add(missing)
            self._sent.write(len(points))
        if ended is not None and not self._is_whole:
            self._keeper.end(*ended)
            self._is_whole = True


class _Sent:
    """What a tracker has of a training, in a file: the token of its run, when each epoch ended, and how many it has."""

    def __init__(self, file: Path, token: str, times_ms: list[int], count: int) -> None:
        self._file, self.token, self.times_ms, self.count = file, token, times_ms, count

    @classmethod
    def read(cls, file: Path) -> "_Sent":
        """Read the file; where none is or it is damaged, a new run is begun."""
        try:
            words = parse_object(file.read_bytes())
            return cls(file, str(words["token"]), [int(one) for one in words["times_ms"]], int(words["sent"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(file, uuid4().hex, [], 0)

    def write(self, count: int) -> None:
        """Note that so many epochs were sent. Raises: RunError."""
        words = {"token": self.token, "times_ms": self.times_ms, "sent": count}
        try:
            with published(self._file) as aside:
                aside.write_text(json.dumps(words))
        except OSError as error:
            raise RunError(f"what was sent cannot be noted: {error.strerror}") from error
        self.count = count
