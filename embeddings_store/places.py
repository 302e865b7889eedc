"""Places of this machine that a command would like to have, and may lack: a home, temporary files, shared memory."""

import errno
import locale
import os
import sys
from pathlib import Path

from platformdirs import user_cache_path

from embeddings_store.errors import UsageError

NO_HOME = "/nonexistent"
"""What Debian calls the home of a user without one: nothing is there, so nothing is read and no cache is kept."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
TEMPORARY = "expected a folder for temporary files that can be written; set TMPDIR to one"
SHARED = (
    "the shared memory of this machine is too small for the batches that workers hand over; set workers to 0, or give "
    "more room (docker run --shm-size 8g)"
)
SAID = {
    "No usable temporary directory": f"TMPDIR: {TEMPORARY}",
    "Matplotlib requires access to a writable": f"MPLCONFIGDIR: {TEMPORARY}, or MPLCONFIGDIR",
    "home directory": "HOME: expected a home for this user; write paths without ~, or set HOME",
    "surrogates not allowed": "a path holds bytes that are no UTF-8; rename the folder or file",
    "workers are out of shared memory": SHARED,
    "unable to write to file </torch": SHARED,
    "unable to allocate shared memory": SHARED,
}
"""What the libraries say where a place is missing, and what to do about it."""


def expand_home(path: str | Path) -> Path:
    """Return a path with ~ written out. Raises: UsageError where that user has no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: expected a user with a home behind ~; write the path out") from None


def is_folder(path: str | Path) -> bool:
    """Return whether a folder is there, as far as this user may know."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def cache_folder() -> Path:
    """Return the folder that keeps what can be read again; where none is known, one in which nothing can be kept."""
    try:
        return user_cache_path("octprobe", appauthor=False)
    except RuntimeError:
        return Path(os.devnull) / "octprobe"


def settle_surroundings() -> None:
    """Go on in UTF-8 where paths would be read otherwise, and without a home where none is known."""
    asked = os.environ.get("PYTHONUTF8") == "1"  # and python -I or -E would not listen, however often it is asked
    if sys.getfilesystemencoding().lower() != "utf-8" and not sys.flags.utf8_mode and not asked:
        said = {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{locale.getpreferredencoding()}:backslashreplace"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | said)  # noqa: S606 - itself again
    if "HOME" not in os.environ:
        try:
            Path.home()
        except RuntimeError:
            os.environ["HOME"] = NO_HOME


def describe_lack(error: Exception) -> str | None:
    """Return one line for an error that comes of the machine, which lacks room or a place; None for any other."""
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.filename or 'a file'}: {error.strerror}; give it room, or choose another place"
    return next((line for words, line in SAID.items() if words in str(error)), None)
