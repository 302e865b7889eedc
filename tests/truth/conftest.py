"""Simulators build on the small study of the tests of classify."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "classify"))
