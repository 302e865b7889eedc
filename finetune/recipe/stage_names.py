"""The names of the stages, in the order in which they may follow each other."""

from embeddings_store.errors import UsageError

STAGES = ("head", "last", "all", "lora")
LORA = "lora"


def parse_stages(text: str) -> tuple[str, ...]:
    """Read "head,last,all" or "head,lora", or a part of it in that order; else UsageError."""
    names = tuple(name.strip() for name in text.split(","))
    alternatives = (STAGES[:3], ("head", LORA))
    if not any(names == tuple(stage for stage in order if stage in names) for order in alternatives):
        raise UsageError(
            f"--stages: expected some of head,last,all, or of head,lora, in this order and each once, got {text!r}"
        )
    return names
