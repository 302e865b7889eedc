"""The part of the error tree that belongs to training.

::

    RunError
    └── DivergedError   the loss is not finite: the same recipe would fail again, so its training state is not kept
"""

from embeddings_store.errors import RunError


class DivergedError(RunError):
    """The loss became infinite or NaN."""
