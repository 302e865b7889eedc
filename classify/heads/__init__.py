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
from classify.heads.number_form import NUMBER
from classify.heads.numbers import AttentiveNumber, DummyNumber, KnnNumber, LgbmNumber, MilNumber, MlpNumber
from classify.heads.ordinal import OrdinalHead
from classify.heads.ridge import RidgeHead
from classify.heads.tokens_linear import TokensLinearHead
from classify.model_files import read_object
from embeddings_store.errors import UsageError

__all__ = ["HEADS", "NUMBER_HEADS", "Head", "find_head", "load_head", "read_head"]

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

NUMBER_HEADS: dict[str, type[Head]] = {
    "dummy": DummyNumber,
    "linear": RidgeHead,
    "lgbm": LgbmNumber,
    "mlp": MlpNumber,
    "knn": KnnNumber,
    "attentive": AttentiveNumber,
    "mil": MilNumber,
}
"""The forms of the heads that predict a number; a head that is not here predicts classes alone."""


def find_head(name: str, *, number: bool = False) -> type[Head]:
    """Look a head, or its form for numbers, up by its name; an unknown one is a UsageError that lists them."""
    if name not in HEADS:
        raise UsageError(f"--model: expected one of {', '.join(HEADS)}, got {name!r}")
    if number and name not in NUMBER_HEADS:
        raise UsageError(
            f"--model: {name} predicts classes, and the target is a number; expected one of {', '.join(NUMBER_HEADS)}"
        )
    return NUMBER_HEADS[name] if number else HEADS[name]


def load_head(folder: Path) -> Head:
    """Read the head of a run's model folder, to be asked of standardised features: it refuses raw ones.

    Raises: RunFolderError where there is none.
    """
    head = read_head(folder)
    head.standardiser_ = Standardiser.load(folder) if Standardiser.is_in(folder) else None
    return head


def read_head(folder: Path) -> Head:
    """Read the head that save wrote into a folder. Raises: RunFolderError where there is none."""
    state = read_object(folder / STATE)
    name, forms = state.get("head"), NUMBER_HEADS if state.get("kind") == NUMBER else HEADS
    if not isinstance(name, str) or name not in forms:
        raise RunFolderError(f"model folder: expected one of the heads {', '.join(forms)}, got {str(name)[:40]!r}")
    return forms[name]().load(folder)
