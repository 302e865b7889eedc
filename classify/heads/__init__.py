"""The heads by name. A head is a scikit-learn classifier that can be saved without pickle."""

from pathlib import Path

from classify.errors import RunFolderError
from classify.features.standardise import Standardiser
from classify.heads.attentive import AttentiveHead
from classify.heads.contract import STATE, Head
from classify.heads.dummy import DummyHead
from classify.heads.forest import ForestHead
from classify.heads.knn import KnnHead
from classify.heads.lgbm import LgbmHead
from classify.heads.linear import LinearHead
from classify.heads.mil import MilHead
from classify.heads.mlp import MlpHead
from classify.heads.ordinal import OrdinalHead
from classify.heads.tokens_linear import TokensLinearHead
from classify.model_files import read_object
from embeddings_store.errors import UsageError

__all__ = ["HEADS", "Head", "find_head", "load_head", "read_head"]

HEADS: dict[str, type[Head]] = {
    "dummy": DummyHead,
    "linear": LinearHead,
    "lgbm": LgbmHead,
    "forest": ForestHead,
    "mlp": MlpHead,
    "ordinal": OrdinalHead,
    "knn": KnnHead,
    "tokens-linear": TokensLinearHead,
    "attentive": AttentiveHead,
    "mil": MilHead,
}


def find_head(name: str) -> type[Head]:
    """Look a head up by its name; an unknown one is a UsageError that lists them."""
    if name not in HEADS:
        raise UsageError(f"--model: expected one of {', '.join(HEADS)}, got {name!r}")
    return HEADS[name]


def load_head(folder: Path) -> Head:
    """Read the head of a run's model folder, to be asked of standardised features: it refuses raw ones.

    Raises: RunFolderError where there is none.
    """
    head = read_head(folder)
    head.standardiser_ = Standardiser.load(folder) if Standardiser.is_in(folder) else None
    return head


def read_head(folder: Path) -> Head:
    """Read the head that save wrote into a folder. Raises: RunFolderError where there is none."""
    name = read_object(folder / STATE).get("head")
    if not isinstance(name, str) or name not in HEADS:
        raise RunFolderError(f"model folder: expected one of the heads {', '.join(HEADS)}, got {name!r}")
    return HEADS[name]().load(folder)
