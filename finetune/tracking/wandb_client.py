"""W&B's client. With WANDB_MODE=offline nothing leaves this machine.

Who is asked, and as whom, is W&B's own business (WANDB_MODE, WANDB_API_KEY, WANDB_BASE_URL, ``wandb login``). The name
of this machine, its user, its packages and its code are not sent.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embeddings_store.errors import RunError
from embeddings_store.extras import require

QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


def settings_of(wandb: Any, folder: Path, program: str) -> Any:
    """Tell of this machine no more than a run has to."""
    return wandb.Settings(
        root_dir=str(folder),
        host="not sent",
        program=program,
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


@contextmanager
def quiet_wandb(folder: Path) -> Iterator[Any]:
    """Import W&B without its reports of errors, keep its files below the folder, and map its errors."""
    for name, value in {**QUIET, "WANDB_DATA_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "wandb")}.items():
        os.environ.setdefault(name, value)
    wandb = require("wandb", "--to wandb, instead of --to mlflow")
    try:
        yield wandb
    except (wandb.errors.Error, OSError) as error:
        first = str(error).splitlines()[0]
        raise RunError(f"W&B: expected a folder and a server that can be written, got: {first}") from error
