"""The one entry to the simulators of known truth, whose tables stand in docs/evaluation.md.

``python tests/truth/run.py --long`` runs all of them at the size that the page promises (about two hours of one core);
without ``--long`` at the size of the tests; names choose some. With ``--results FILE`` each study is kept as soon as it
is measured, and a later run goes on from there, unless the code that is judged has changed; ``--hours`` ends in time.
A simulator is a module here with ``table(long: bool, kept: Kept) -> Iterable[str]``, which gives the lines of its
Markdown tables one by one.
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from kept_results import Kept, TimeIsUpError

HERE = Path(__file__).parent
NAMES = tuple(path.stem for path in sorted(HERE.glob("*.py")) if "\ndef table(" in path.read_text())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to run, of {', '.join(NAMES)}; else all")
    parser.add_argument("--long", action="store_true", help="as many studies as docs/evaluation.md promises")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="lines that hold these words, such as 'mil, curved'"
    )
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no study after so many")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep each study in a file, and go on from it")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"expected names of {', '.join(NAMES)}, got {', '.join(unknown)}")
    until = time.monotonic() + 3600 * options.hours
    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "classify")]
    try:
        for name in options.names or NAMES:
            print(f"\n### {name}\n", flush=True)
            for line in import_module(name).table(options.long, Kept(options.results, name, until, options.only)):
                print(line, flush=True)
    except TimeIsUpError:
        more = "run it again with the same --results to go on" if options.results else "--results FILE would keep it"
        sys.exit(f"stopped after {options.hours:g} hours, before the end; {more}")


if __name__ == "__main__":
    main()
