"""What the rest of the project knows of an encoder's arithmetic, whatever its family."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from embeddings_store.errors import UsageError
from extract.encoder.architecture import LAST, Architecture, shape_text
from extract.encoder.attention import Attention, SelfAttention


class EncoderModule(nn.Module, ABC):
    """An encoder of any family: grey volumes in, tokens of the asked layers out."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture

    @abstractmethod
    def forward(
        self, volumes: Float[Tensor, "B channels D H W"], layers: Sequence[str] = (LAST,)
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """Give the patch tokens after the asked blocks ("1".."depth", before the final norm) and "last" (after it).

        Where the family has prefix tokens, those of each layer come too, [B, P, C] (of slices [B, S * P, C]), as
        ``prefix_of(layer)``.
        One pass serves every layer, and blocks beyond the deepest one asked for are not run.
        Raises UsageError on an unknown layer or a volume of another size.
        """

    def use_attention(self, attention: Attention) -> None:
        """Compute attention with this function from now on, in every block."""
        for part in self.modules():
            if isinstance(part, SelfAttention):
                part.attend = attention

    def require_input(self, volumes: Tensor, layers: Sequence[str]) -> None:
        """Check layer names, and that the volumes have the architecture's image size; else UsageError."""
        self.architecture.require_layers(layers)
        expected = self.architecture.image_size
        if tuple(volumes.shape[2:]) != expected:
            raise UsageError(
                f"encoder input: expected volumes of {shape_text(expected)}, got {shape_text(volumes.shape[2:])}; "
                "preprocess to the encoder's image size"
            )


def prefix_of(layer: str) -> str:
    """Name the prefix tokens (class, registers, global) of a layer in what forward gives."""
    return f"{layer}.prefix"


def run_blocks(
    tokens: Float[Tensor, "B N C"],
    blocks: nn.ModuleList,
    final_norm: nn.Module,
    layers: Sequence[str],
    *,
    norm_all: bool = False,
) -> dict[str, Float[Tensor, "B N C"]]:
    """Run the blocks up to the deepest layer asked for, and keep what was asked for; norm_all: each after the norm."""
    deepest = len(blocks) if LAST in layers else max(int(name) for name in layers)
    found: dict[str, Tensor] = {}
    for number in range(1, deepest + 1):
        tokens = blocks[number - 1](tokens)
        if str(number) in layers:
            found[str(number)] = final_norm(tokens) if norm_all else tokens
    if LAST in layers:
        found[LAST] = final_norm(tokens)
    return {name: found[name] for name in layers}
