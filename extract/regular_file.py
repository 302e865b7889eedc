"""Files that can be read to their end: a pipe or a device may wait for ever, or never end."""

import errno
import stat
from pathlib import Path


def require_regular(path: Path) -> None:
    """Refuse what is there but no plain file. Raises OSError, as reading it would."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise OSError(errno.EINVAL, "expected a plain file, got a pipe, socket or device")
