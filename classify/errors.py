"""What can be wrong with a cohort, a split or a run folder. See embeddings_store.errors for the tree.

::

    RunError
    ├── CohortError      the participants table or its join with the store cannot be used
    │   └── LeakError    one person stands on two sides of a split: the only message that names participants
    └── RunFolderError   a run folder is missing, unfinished or damaged
"""

from embeddings_store.errors import RunError


class CohortError(RunError):
    """The participants table, or its join with the store, cannot be used."""


class LeakError(CohortError):
    """A participant (or a scan) stands on two sides of a split; the message names the participants."""


class RunFolderError(RunError):
    """A run folder is missing, unfinished or damaged."""
