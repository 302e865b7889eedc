"""The engine of a Ray cluster: a worker on every node, or GPU, does the whole way; here its volumes are shared out."""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from embeddings_store.errors import RunError, UsageError
from extract.engines.cluster import LOOK, LostWorkerError, Seat
from extract.engines.hired_worker import Assignment, HiredWorker
from extract.engines.sharing import engine_on
from extract.engines.work import Engine, OpenedEncoders
from extract.errors import DeviceError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster that is started here phones nobody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
KNOCK_S = 10.0
QUOTED = re.compile(r"\w+Error: ")


class RayCluster:
    """A cluster that ``ray start`` made, or one of this machine alone."""

    name = "ray"

    def __init__(self, ray: Any, seats: Sequence[Seat]) -> None:
        self._ray = ray
        # What is asked must not wait for what is done, but what is done keeps its order.
        self._actor = ray.remote(concurrency_groups={LOOK: 1})(HiredWorker)
        self.seats = seats

    def hire(self, seat: Seat, assignment: Assignment) -> Any:
        """Prefer the seat's node; where it is gone, take any other with as much room."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(seat.node, soft=True)
        needs = {"num_cpus": seat.cores, "num_gpus": int(seat.device == "cuda"), "scheduling_strategy": place}
        return self._actor.options(**needs).remote(assignment)

    def ask(self, worker: Any, method: str, *given: Any) -> Any:
        """Ask an actor."""
        call = getattr(worker, method)
        return (call.options(concurrency_group=LOOK) if method == LOOK else call).remote(*given)

    def answered(self, questions: Sequence[Any], timeout_s: float) -> list[Any]:
        """Wait for one, then take those that are there as well."""
        first, _ = self._ray.wait(list(questions), timeout=timeout_s)
        found: list[Any] = self._ray.wait(list(questions), num_returns=len(questions), timeout=0)[0] if first else []
        return found

    def answer(self, question: Any) -> Any:
        """Fetch an answer that is there."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(question)
        except (errors.ActorDiedError, errors.ActorUnavailableError, errors.ObjectLostError) as error:
            raise LostWorkerError(reason_in(str(error))) from error
        except errors.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise RunError(
                f"ray: a worker failed with {type(cause).__name__}; --engine local shows whether it is the node"
            ) from error

    def dismiss(self, worker: Any) -> None:
        """Kill the actor."""
        self._ray.kill(worker, no_restart=True)


@contextmanager
def open_ray(opened: OpenedEncoders) -> Iterator[Engine]:
    """Give the engine that works on a Ray cluster. Raises: UsageError, DeviceError, RunError."""
    options = opened.options
    with open_ray_cluster(options.ray_address, options.device) as cluster, engine_on(cluster, opened) as engine:
        yield engine


@contextmanager
def open_ray_cluster(address: str | None, device: str) -> Iterator[RayCluster]:
    """Join a running cluster, or start one here, and leave it at the end.

    address: None means Ray's own default: RAY_ADDRESS, else a cluster of this machine.
    Raises: UsageError where Ray is not installed or no cluster answers; DeviceError where it lacks the device.
    """
    ray = import_ray()
    _require_answer(address or os.environ.get("RAY_ADDRESS", ""))
    # Whatever its log_to_driver says, Ray prints the end of a lost node's log on stdout, which is for JSON.
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, reason_in(str(error))) from error
        try:
            yield RayCluster(ray, find_seats(ray.nodes(), device))
        finally:
            ray.shutdown()


def import_ray() -> Any:
    """Give ray. Raises: UsageError that names the extra where it is not installed."""
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray: Ray is not installed; install octprobe[ray], or use --engine local") from error
    return ray


def find_seats(nodes: Sequence[Mapping[str, Any]], device: str) -> list[Seat]:
    """Seat one worker a GPU where there are any, else one a node. nodes: as ray.nodes() gives them.

    Raises: DeviceError where no node has the device.
    """
    living = [node for node in nodes if node["Alive"]]
    seats = [seat for kind in KINDS[device] for seat in kind(living)]
    with_gpu = [seat for seat in seats if seat.device == "cuda"]
    if not seats:
        what = "GPU" if device == "cuda" else "CPU"
        raise DeviceError(
            f"--engine ray --device {device}: none of the cluster's {len(living)} nodes offers a {what}; "
            f"see ray status, and ray start --num-{what.lower()}s"
        )
    return with_gpu or seats


def _seats_of_gpus(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Seat]:
    for node in nodes:
        gpus, cores = (int(node["Resources"].get(kind, 0)) for kind in ("GPU", "CPU"))
        for _ in range(min(gpus, cores)):
            yield Seat(node["NodeID"], node["NodeManagerAddress"], cores // min(gpus, cores), "cuda", min(gpus, cores))


def _seats_of_nodes(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Seat]:
    for node in nodes:
        if cores := int(node["Resources"].get("CPU", 0)):
            yield Seat(node["NodeID"], node["NodeManagerAddress"], cores, "cpu", 1)


KINDS: dict[str, tuple[Callable[[Sequence[Mapping[str, Any]]], Iterator[Seat]], ...]] = {
    "auto": (_seats_of_gpus, _seats_of_nodes),
    "cuda": (_seats_of_gpus,),
    "cpu": (_seats_of_nodes,),
}


def reason_in(text: str) -> str:
    """Choose one line of what Ray says: the last exception that it quotes, else the first line."""
    lines = text.strip().splitlines() or ["no reason given"]
    return next((line for line in reversed(lines) if QUOTED.match(line)), lines[0])


def _require_answer(address: str) -> None:
    """Knock at HOST:PORT: Ray itself waits for minutes where nobody answers."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, reason: str) -> UsageError:
    return UsageError(
        f"--ray-address: expected the address of a running Ray cluster, got {address!r}: {reason}; "
        "ray start --head begins one"
    )
