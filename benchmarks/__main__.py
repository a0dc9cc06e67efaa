"""All benchmarks in one table, beside the one that is stored: python -m benchmarks

It takes about a quarter of an hour on two idle cores. With --write, what was measured is stored in docs/benchmarks.json and
docs/benchmarks.md; without, it is printed beside what is stored, and every ratio and share that has grown by more than a tenth is
marked "worse". The exit code is 1 where one is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

from benchmarks import attribution, compiled, evaluate, explore, memory, probe, recipes, scale, throughput
from benchmarks.common import Row, about, elsewhere, read, rows_alone, table, worse, write

STORED = Path(__file__).parents[1] / "docs" / "benchmarks.json"
SHORT: dict[ModuleType, str] = {  # what each is run with here, so that all of them take a quarter of an hour
    probe: "--batch-sizes 1 8 --repeats 9 --no-bf16",
    attribution: "--repeats 7",
    compiled: "--repeats 9 --no-breaks",
    explore: "--repeats 3",
    memory: "--images 50 1000",
    recipes: "--repeats 3 --no-memory --recipe maskclip sclip naclip proxyclip sc_clip lposs",
    evaluate: "--photos 2 --repeats 3",
    scale: "--pictures 2000",
    throughput: "--photos 2 --repeats 1 --classes 21",
}
PAGE = """# Benchmarks

`python -m benchmarks` measures this table; each script prints its part alone, `python -m benchmarks.evaluate --help` says with what
options. What is compared takes turns, so that other load on the machine meets both; a ratio is the median of the ratios
within one turn, beside its quartiles. `python -m benchmarks` prints a new table beside this one, and marks ratios and shares that
have grown by more than a tenth; `--write` stores a new one. Weights are random but for those of clip_tiny: they change no cost.

- machine: {machine}
- versions: {versions}
- date: {date}

{table}
"""


def measured(names: list[str], words: dict[str, str]) -> list[Row]:
    """The rows of some benchmarks, one after another.

    Args:
        names: of the scripts.
        words: the options of each, as on its command line.
    """
    found: list[Row] = []
    for name in filter(names.__contains__, (module.NAME for module in SHORT)):
        print(f"{name} …", file=sys.stderr, flush=True)
        found += rows_alone(name, words[name])
    return found


def main() -> int:
    usual = {module.NAME: options for module, options in SHORT.items()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(usual)}; by default all")
    parser.add_argument("--write", action="store_true", help="store what was measured in the table")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(usual))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    names = given.names or list(usual)
    rows, stored = measured(names, usual), read(STORED)
    print(f"{'; '.join(about().values())}\n\n{table(rows, stored)}")
    if given.write:
        kept = [row for row in stored if row.script not in names]
        if kept and elsewhere(STORED):
            parser.error(
                "the other rows of the stored table are of another machine or other versions: measure all of them"
            )
        rows = sorted(kept + rows, key=lambda row: list(usual).index(row.script))
        write(STORED, rows)
        STORED.with_suffix(".md").write_text(PAGE.format(**about(), table=table(rows)))
        return 0
    before = {row.key: row for row in stored}
    return int(any(worse(row, before[row.key]) for row in rows if row.key in before))


if __name__ == "__main__":
    raise SystemExit(main())
