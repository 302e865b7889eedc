"""The one entry to the simulators of known truth, whose tables stand in docs/evaluation.md.

``python tests/truth/run.py --long`` runs all of them at the size that the page promises (hours of one core); without
``--long`` at the size of the tests; names choose some. A simulator is a module here with
``table(long: bool) -> Iterable[str]``, which gives the lines of its Markdown tables one by one.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="modules to run; all where none is named")
    parser.add_argument("--long", action="store_true", help="as many studies as docs/evaluation.md promises")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "classify")]
    for path in sorted(HERE.glob("[!t]*.py")):
        if path.stem == "run" or (options.names and path.stem not in options.names):
            continue
        if table := getattr(import_module(path.stem), "table", None):
            print(f"\n### {path.stem}\n")
            for line in table(options.long):
                print(line, flush=True)


if __name__ == "__main__":
    main()
