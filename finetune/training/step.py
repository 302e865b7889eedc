"""One step of training: gradients of a batch, in one forward or several, over one process or several."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from embeddings_store.errors import RunError
from extract.device.backend import Backend
from finetune.data.feeds import Feed, LabelledBatch
from finetune.parallel.sharing import Parallel


def weighted_loss(logits: Float[Tensor, "b k"], label: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Sum the cross-entropy over volumes; a row of label holds the volume's weight, shared over classes if mixed."""
    return -(label * functional.log_softmax(logits.float(), dim=1)).sum()


def add_gradients(parallel: Parallel, feed: Feed, parts: Sequence[LabelledBatch], volumes: int) -> Float[Tensor, ""]:
    """Compute the gradients of the mean loss over ``volumes``, the batch of all processes; give this share's loss.

    However the batch is split into parts and over processes, the gradients are the same, up to rounding.
    """
    weights = [weight for weight in parallel.model.parameters() if weight.requires_grad]
    for weight in weights:
        weight.grad = None
    total = torch.zeros((), device=weights[0].device)
    share = parallel.size / volumes  # the exchange is a mean over processes
    for number, part in enumerate(parts, start=1):
        with parallel.exchanging(last=number == len(parts)):
            loss = weighted_loss(feed.logits(parallel.net, part), part.label)
            (loss * share).backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        total = total + loss.detach()
    return total


def take_step(
    parallel: Parallel,
    optimiser: torch.optim.Optimizer,
    feed: Feed,
    parts: Sequence[LabelledBatch],
    *,
    volumes: int,
    gradient_clip: float,
) -> Float[Tensor, ""]:
    """Change the weights by one batch; give the summed loss of this process' share as it was before."""
    total = add_gradients(parallel, feed, parts, volumes)
    nn.utils.clip_grad_norm_([weight for weight in parallel.model.parameters() if weight.requires_grad], gradient_clip)
    optimiser.step()
    return total


def seeded(backend: Backend, seed: Sequence[int]) -> AbstractContextManager[None]:
    """Draw dropout and the like from this seed, and leave torch's own random state as it was.

    So a step draws the same numbers whatever came before it, and a resumed run needs no random state.
    """
    return backend.seeded(int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> np.uint64(1)))


@contextmanager
def telling_what_fits(parallel: Parallel, feed: Feed, part: LabelledBatch) -> Iterator[None]:
    """Turn running out of memory into the number of volumes a forward that fits. Raises RunError."""
    try:
        yield
    except RuntimeError as error:
        if not feed.backend.is_out_of_memory(error):
            raise
        size = len(part.inputs)
    else:
        return
    fitting = _find_fitting(parallel, feed, part, size)
    if fitting is None:
        raise RunError(
            "out of memory with one volume a forward: use --set recompute=true, --set precision=bf16, fewer "
            "stages.last.blocks, or a device with more memory"
        )
    share = f"micro_batch_size={fitting}" + (f" on each of {parallel.size} processes" if parallel.size > 1 else "")
    raise RunError(
        f"out of memory with {size} volumes a forward; {fitting} fit: use --set {share}; batch_size stays as it is, "
        "and so does the result"
    )


def _find_fitting(parallel: Parallel, feed: Feed, part: LabelledBatch, size: int) -> int | None:
    """Try halves until one step's gradients can be computed; in this process alone, as others need not lack memory."""
    while size > 1:
        size //= 2
        for weight in (*parallel.model.parameters(), *parallel.spare.parameters()):
            weight.grad = None
        feed.backend.forget_freed()
        try:
            piece = LabelledBatch(part.inputs[:size], part.label[:size], part.group[:size])
            weighted_loss(feed.logits(parallel.spare, piece), piece.label).backward()  # type: ignore[no-untyped-call]  # as above
        except RuntimeError as error:
            if not feed.backend.is_out_of_memory(error):
                raise
        else:
            return size
    return None
