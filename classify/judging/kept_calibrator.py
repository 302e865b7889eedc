"""The calibration of a finished run, read again and tried before any probability is stated by it."""

from pathlib import Path

import numpy as np

from classify.judging.calibrate import CALIBRATION, METHODS, Calibrator, load_calibrator
from classify.judging.number_calibration import FITS, check_line
from classify.judging.prevalence import move
from classify.model_files import readable


def read_calibrator(folder: Path, classes: int) -> Calibrator | None:
    """Return the calibrator of a model folder; None where the run was not calibrated.

    Raises: RunFolderError where it is damaged: a scale that is not positive would turn every answer round, and of
    logits it has to make shares of so many classes.
    """
    found = load_calibrator(folder)
    if found is None:
        return None
    with readable(f"{folder.name}/{CALIBRATION}"):
        if (found.method in FITS) != (not classes):
            raise ValueError(f"expected the calibration of {classes or 'no'} classes, got the method {found.method}")
        for part in found.parameters.values() if not classes else ():
            check_line(part)
        for level, part in found.parameters.items() if classes else ():
            if wrong := [name for name in ("temperature", "spread") if not part.get(name, 1) > 0]:
                raise ValueError(f"{level}: expected a positive {wrong[0]}, got {part[wrong[0]]}")
            if wrong := [name for name, value in part.items() if isinstance(value, list) and len(value) != classes]:
                raise ValueError(f"{level}: expected {wrong[0]} of {classes} classes, got {len(part[wrong[0]])}")
            known = METHODS[found.method].apply(np.eye(classes), part)
            if found.shares is not None and found.prevalence is not None:
                known = move(known, found.shares, found.prevalence)
            if known.shape != (classes, classes) or not (np.isclose(known.sum(axis=1), 1).all() and (known >= 0).all()):
                raise ValueError(f"{level}: expected probabilities of {classes} classes")
    return found
