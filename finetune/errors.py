"""The part of the error tree that belongs to training.

::

    RunError
    ├── DivergedError   the loss is not finite: the same recipe would fail again, so its training state is not kept
    └── StoppedError    a signal ended the training, whose state is kept
"""

from embeddings_store.errors import RunError


class DivergedError(RunError):
    """The loss became infinite or NaN."""


class StoppedError(RunError):
    """A signal asked the training to end; the same command goes on from the state that was saved."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
