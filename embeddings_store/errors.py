"""The error tree of the whole house.

::

    OctProbeError               one clear message for the user; never a traceback
    ├── UsageError              a wrong option, value or configuration key            exit code 2
    ├── StoreError              the store is missing, foreign, damaged or read-only   exit code 1
    │   ├── SpaceMismatchError  the store holds numbers of another embedding space
    │   └── UnreadableError     its place refused (rights, a full or failing disk, a server): no damage is known
    ├── RunError                the run cannot go on (bucket, checkpoint, device ...) exit code 1
    └── VolumeError             one volume failed: an error row, and the run goes on

A message says which thing, what was expected, what came, and what to do.
Upper floors derive their own errors from these; each command maps an error to its exit code.
"""


class OctProbeError(Exception):
    """Anything that a user should read as one message.

    >>> import octprobe
    >>> try:
    ...     octprobe.open_store("nowhere")
    ... except octprobe.OctProbeError as error:
    ...     print(error)
    there is no store at nowhere: the folder does not exist
    """

    exit_code = 1


class UsageError(OctProbeError):
    """A wrong option, value or configuration key."""

    exit_code = 2


class StoreError(OctProbeError):
    """The store is missing, damaged, read-only or not a store."""


class SpaceMismatchError(StoreError):
    """The store was written in another embedding space than the one asked for."""


class UnreadableError(StoreError):
    """The place of the store refused: rights, open files, a failing disk, a server. What lies there is not judged."""


class RunError(OctProbeError):
    """The run cannot go on; nothing that was committed is lost."""


class VolumeError(OctProbeError):
    """One volume could not be used.

    It becomes an error row; ``stage`` says where it failed (fetch, decode, preprocess, encode, write).
    """

    stage = "volume"
