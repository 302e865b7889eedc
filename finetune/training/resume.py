"""The state of training on disk, so that a killed run goes on as if it had never stopped. No pickle.

::

    <runs>/.finetune-<key>/    the key names everything that decides the weights
      <number>/                newest state; written aside, published by rename
        state.json             where training is, the epochs so far, the best one; the sums of all files
        model.safetensors      weights as they are      optimiser.safetensors   AdamW's moments and steps, by weight
        best.safetensors       weights of the best epoch

Random numbers need no state: order, augmentation and dropout are drawn from (seed, stage, epoch, step or volume).
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from classify.model_files import digest_files, find_unlike
from embeddings_store.checksums import seal_fault, sealed_json
from embeddings_store.documents import parse_object
from embeddings_store.errors import RunError
from embeddings_store.publish import published
from embeddings_store.regular_file import require_regular_below
from finetune.model.network import VolumeClassifier, host_weights, whole
from finetune.training.epochs import BestWeights, Epoch
from finetune.training.stages import trainable_weights

STATES, STATE = "state", "state.json"


@dataclass(frozen=True)
class Position:
    """Where training is: in ``epoch`` (from 1) of ``stage``, after ``step`` of its steps.

    loss: summed over the volumes of the epoch so far, of all processes. history: finished epochs of all stages.
    """

    stage: str
    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    history: tuple[Epoch, ...] = ()


@dataclass(frozen=True)
class TrainingTensors:
    """Weights by name, and AdamW's state as optimiser_tensors names it; on the CPU."""

    model: Mapping[str, Shaped[Tensor, "..."]]
    optimiser: Mapping[str, Shaped[Tensor, "..."]]


@dataclass(frozen=True)
class Saved:
    """A state that was read back from a folder."""

    folder: Path
    position: Position
    tensors: TrainingTensors
    best: BestWeights


@dataclass(frozen=True)
class StateFolder:
    """Keeps the newest state of one run; a state appears complete or not at all.

    inputs: names what is learned from; a state that learned from something else is not gone on from.
    """

    folder: Path
    inputs: str = ""

    @property
    def exists(self) -> bool:
        """Say whether there is a state."""
        return bool(self._numbers())

    def save(self, position: Position, tensors: TrainingTensors, best: BestWeights) -> None:
        """Write a state, then remove the one before. Raises RunError where it cannot be written."""
        number = 1 + max(self._numbers(), default=0)
        words = {
            "inputs": self.inputs,
            "position": asdict(position),
            "best": asdict(best.epoch) if best.epoch else None,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with published(self.folder / f"{number:06d}") as aside:
                aside.mkdir()
                save_file(dict(tensors.model), aside / "model.safetensors")
                save_file(dict(tensors.optimiser), aside / "optimiser.safetensors")
                save_file({name: t.cpu().contiguous() for name, t in best.weights.items()}, aside / "best.safetensors")
                (aside / STATE).write_bytes(sealed_json(words | {"sha256": digest_files(aside)}))
        except OSError as error:
            raise RunError(
                f"the training state cannot be written to {self.folder}: {error.strerror}; choose another --runs"
            ) from error
        for older in self._numbers():
            if older < number:
                shutil.rmtree(self.folder / f"{older:06d}", ignore_errors=True)

    def load(self) -> Saved | None:
        """Read the newest state, or None where there is none of these inputs. Raises RunError where it is damaged."""
        number = max(self._numbers(), default=0)
        if not number:
            return None
        folder = self.folder / f"{number:06d}"
        try:
            require_regular_below(folder)
            words = _read_state(folder)
            if words["inputs"] != self.inputs:
                return None
            _check_sums(folder, words.get("sha256", {}))
            tensors = {name: load_file(folder / f"{name}.safetensors") for name in ("model", "optimiser", "best")}
            best = BestWeights(Epoch(**words["best"]) if words["best"] else None, tensors["best"])
            found = TrainingTensors(tensors["model"], tensors["optimiser"])
            return Saved(folder, _read_position(words["position"]), found, best)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RunError(
                f"the training state in {folder} is damaged ({_words_of(error)}); restore it, or delete it to begin "
                "again"
            ) from error

    def _numbers(self) -> list[int]:
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return [int(path.name) for path in found if path.name.isdecimal()]


def collect_tensors(model: VolumeClassifier, optimiser: torch.optim.Optimizer) -> TrainingTensors:
    """Copy weights and AdamW's state to the CPU, whole; of a sharded model all processes must ask."""
    return TrainingTensors(host_weights(model), optimiser_tensors(model, optimiser))


def optimiser_tensors(model: VolumeClassifier, optimiser: torch.optim.Optimizer) -> dict[str, Shaped[Tensor, "..."]]:
    """Name AdamW's state: "<weight>/exp_avg", "/exp_avg_sq", "/step"; its settings follow from the recipe."""
    return {
        f"{name}/{part}": whole(tensor).detach().cpu().clone().contiguous()
        for name, weight in trainable_weights(model)
        for part, tensor in optimiser.state.get(weight, {}).items()
    }


def require_same_weights(model: nn.Module, tensors: Mapping[str, Shaped[Tensor, "..."]], folder: Path) -> None:
    """Refuse a state whose weights have other names or shapes than the model's. Raises RunError.

    So has one that an earlier version wrote, where queries, keys and values were weights of their own.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if other := sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name)):
        raise RunError(
            f"the training state in {folder} has other weights than this version trains (such as {other[0]}), and is "
            "not gone on from; delete it to begin again"
        )


def restore_optimiser(
    model: VolumeClassifier, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Shaped[Tensor, "..."]]
) -> None:
    """Put AdamW's state back."""
    on_device = bool(optimiser.defaults["capturable"])
    for name, weight in trainable_weights(model):
        parts = {key.rpartition("/")[2]: value for key, value in tensors.items() if key.rpartition("/")[0] == name}
        if parts:
            optimiser.state[weight] = {
                part: _placed_like(weight, value) if part != "step" or on_device else value
                for part, value in parts.items()
            }


def _placed_like(weight: nn.Parameter, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Put AdamW's moments where the weight lies, sharded as it is."""
    placed = value.to(weight.device)
    if isinstance(weight, DTensor) and value.ndim:
        return distribute_tensor(placed, weight.device_mesh, weight.placements)
    return placed


def _read_state(folder: Path) -> dict[str, Any]:
    """Read STATE. Raises: ValueError where it is not what was saved, OSError."""
    body = (folder / STATE).read_bytes()
    if fault := seal_fault(body):
        raise ValueError(f"{STATE}: {fault}")
    return parse_object(body)


def _check_sums(folder: Path, wanted: Mapping[str, str]) -> None:
    """Refuse tensors that are not what was saved, whatever they look like; a state of before this was kept has no sums.

    Raises: ValueError.
    """
    if unlike := find_unlike(folder, wanted):
        raise ValueError(f"{unlike[0]}: its checksum is another")


def _words_of(error: Exception) -> str:
    return str(error) if type(error) is ValueError else type(error).__name__


def _read_position(words: dict[str, Any]) -> Position:
    return Position(**(words | {"history": tuple(Epoch(**epoch) for epoch in words["history"])}))
