"""Files that can be read to their end: a pipe or a device may wait for ever, or never end."""

import errno
import stat
from pathlib import Path


def require_regular(path: Path) -> None:
    """Refuse what is there but neither a plain file nor a folder. Raises OSError, as reading it would."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return  # whoever opens it says so
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "expected a plain file, got a pipe, socket or device")


def require_regular_below(folder: Path) -> None:
    """Refuse a folder in which anything else lies than plain files and folders. Raises OSError, which names it."""
    for path in sorted(folder.rglob("*")):
        try:
            require_regular(path)
        except OSError as error:
            raise OSError(error.errno, f"{path.relative_to(folder).as_posix()}: {error.strerror}") from None
