"""Where the encoder of a store came from: written once beside its space, and no part of the space's id."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from embeddings_store.checksums import SEAL, seal_fault, sealed_json
from embeddings_store.documents import parse_object
from embeddings_store.errors import StoreError
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage

PATH = "encoder.json"
NOT_RECORDED = "not recorded"
LATER = ("licence", "citation")
"""Fields that came later."""

Training = Literal["random", "barely", "unclear", "trained"]
"""random: weights that were drawn, by intention; barely: almost a random start; unclear: the file does not tell."""


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """An encoder by the name of its file (without folder) or of its random start ("random:tiny,seed=0").

    epoch: as the file says it, None where it says none. training: the doctor's verdict, reason: its words.
    licence, citation: of a published encoder; None for an own or random one, and in records of before.
    """

    name: str
    family: str
    weights_sha256: str
    epoch: int | float | str | None
    training: Training
    reason: str
    licence: str | None = None
    citation: str | None = None

    def check(self) -> None:
        """Refuse what no encoder is. Raises: ValueError."""
        texts = (self.name, self.family, self.weights_sha256, self.reason)
        if not all(isinstance(text, str) for text in texts) or self.training not in get_args(Training):
            raise ValueError("encoder source: expected texts, and a verdict on the training")

    @property
    def is_untrained(self) -> bool:
        """Return whether nothing, or nearly nothing, was learned: what is read from such vectors is no pretraining."""
        return self.training in ("random", "barely")

    def describe(self) -> str:
        """Return the source as one line of text."""
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        terms = "" if self.licence is None else f"; licence: {self.licence}; to cite: {self.citation}"
        return f"{self.name} ({self.family}{epoch}): {self.reason}{terms}"

    def to_record(self) -> dict[str, Any]:
        """Return plain JSON types; licence and citation only where there are any."""
        return {name: value for name, value in asdict(self).items() if name not in LATER or value is not None}


def source_of_record(record: Mapping[str, Any] | None) -> EncoderSource | None:
    """Read what to_record gave; None where nothing was recorded."""
    if not record:
        return None
    return EncoderSource(
        **{name: record[name] for name in EncoderSource.__slots__ if name in record or name not in LATER}
    )


def read_encoder_source(storage: Storage, space: EmbeddingSpace) -> EncoderSource | None:
    """Read a store's encoder; None where it was not recorded. Raises StoreError for a damaged or foreign record."""
    body = storage.get(PATH)
    if body is None:
        return None
    fault, found = seal_fault(body), None
    if fault is None:
        try:
            record = parse_object(body)
            record.pop(SEAL, None)
            found = EncoderSource(**record)
            found.check()
        except (TypeError, ValueError):
            fault = "it has other fields than expected"
    if found is not None and found.weights_sha256 != space.weights_sha256:
        fault = "it names other weights than the embedding space"
    if fault is not None:
        raise StoreError(
            f"{storage.url} is damaged: {PATH}: {fault}; delete it, and the next run with the same encoder writes it"
        )
    return found


def record_encoder_source(storage: Storage, source: EncoderSource) -> None:
    """Write a store's encoder; of processes that do so at once all write the same."""
    storage.put(PATH, sealed_json(source.to_record()))
