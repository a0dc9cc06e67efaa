"""What all benchmarks share: repeats that take turns, rows of one table, the machine, and the comparison with a stored table."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

WORSE = 1.1  # a ratio that has grown by more than this is marked
LIBRARIES = ("torch", "timm", "open_clip_torch", "numpy")


@dataclass(frozen=True)
class Row:
    """One number of a benchmark: a median and the quartiles of its repeats.

    Args:
        script: who measured it.
        what: what was measured.
        against: what it is compared with, or nothing.
        unit: "×" for ratios, "%" for shares, which are compared with stored ones; or another, which depends on the machine.
    """

    script: str
    what: str
    against: str
    unit: str
    median: float
    low: float
    high: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which number it is."""
        return self.script, self.what, self.against, self.unit


def row(script: str, what: str, against: str, unit: str, values: Sequence[float]) -> Row:
    """The row of some repeats."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3
    return Row(script, what, against, unit, median, low, high)


def rows_of(name: str, words: str) -> list[Row]:
    """The rows of one script with the options of a command line."""
    module = import_module(f"benchmarks.{name}")
    found: list[Row] = module.rows(module.options().parse_args(words.split()))
    return found


def rows_alone(name: str, words: str) -> list[Row]:
    """The same from a process of its own, whose peak of memory is that of the script."""
    command = [sys.executable, "-m", "benchmarks.common", name, *words.split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def now() -> float:
    """Seconds, after the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """Adds up the seconds that are spent in a function or in a model's modules; one inside another counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._since = 0.0, 0, 0.0

    def start(self, *_: object) -> None:
        """Enter."""
        if not self._depth:
            self._since = now()
        self._depth += 1

    def stop(self, *_: object) -> None:
        """Leave."""
        self._depth -= 1
        if not self._depth:
            self.seconds += now() - self._since

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*given: object, **named: object) -> object:
            self.start()
            try:
                return function(*given, **named)
            finally:
                self.stop()

        return timed

    def modules(self, model: nn.Module) -> None:
        """Time every module of a model from now on."""
        for module in model.modules():
            module.register_forward_pre_hook(self.start)
            module.register_forward_hook(self.stop, always_call=True)  # a pass that is left early raises


@dataclass(frozen=True)
class Turns:
    """Seconds of several variants that took turns, so that other load on the machine meets all of them.

    Args:
        wall: seconds of each turn, by variant.
        cpu: seconds of this process's threads, likewise.
    """

    wall: Mapping[str, list[float]]
    cpu: Mapping[str, list[float]]

    def ratios(self, name: str, against: str) -> list[float]:
        """Ratios within one turn."""
        return [a / b for a, b in zip(self.wall[name], self.wall[against], strict=True)]


def turns(variants: Mapping[str, Callable[[], object]], repeats: int) -> Turns:
    """Run every variant once per turn, forwards and backwards by turns; the first turn warms up and does not count.

    A variant that returns a float has measured itself.
    """
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name in list(variants)[:: 1 if turn % 2 else -1]:
            start, busy = now(), time.process_time()
            own = variants[name]()
            took = own if isinstance(own, float) else now() - start
            if turn:
                wall[name].append(took)
                cpu[name].append(time.process_time() - busy)
    return Turns(wall, cpu)


def peak_memory() -> float:
    """MiB at the peak of this process alone; what `resource` knows begins with the peak of the one that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes here
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def device(name: torch.device) -> str:
    """A device in words."""
    if name.type == "cuda":
        return torch.cuda.get_device_name(name)
    return f"{processor()}, {torch.get_num_threads()} threads"


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def about() -> dict[str, str]:
    """The machine, the versions and the date."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "machine": f"{processor()}, {torch.get_num_threads()} threads; accelerator: {accelerator}",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }  # fmt: skip


def table(rows: Iterable[Row], stored: Iterable[Row] = ()) -> str:
    """Rows as a table of Markdown; with a stored one, each ratio beside what it was, and marked where it is worse.

    >>> now, before = (Row("evaluate", "50 recipes", "one", "×", ratio, ratio, ratio) for ratio in (2.5, 2))
    >>> print(table([now], [before]))
    | script | measured | against | median | quartiles | before |
    |---|---|---|---|---|---|
    | evaluate | 50 recipes | one | 2.50 × | 2.50 … 2.50 | 2.00 × **worse** |
    """
    before = {row.key: row for row in stored}
    heads = ["script", "measured", "against", "median", "quartiles", *(["before"] if before else [])]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = [
            row.script,
            row.what,
            row.against or "–",
            _number(row.median, row.unit),
            f"{row.low:.2f} … {row.high:.2f}",
        ]
        if before:
            old = before.get(row.key)
            cells.append("new" if old is None else _number(old.median, row.unit) + " **worse**" * worse(row, old))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace(" --- |", "---|").replace("| ---|", "|---|")


def worse(row: Row, before: Row) -> bool:
    """Whether a ratio or share has grown by more than a tenth; other units depend on the machine."""
    return row.unit in ("×", "%") and row.median > WORSE * before.median


def _number(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}"


def show(rows: Sequence[Row], what: str) -> None:
    """Print one table, with the machine it is of."""
    print(f"{what}. {'; '.join(about().values())}\n\n{table(rows)}")


def write(path: Path, rows: Sequence[Row]) -> None:
    """Keep a table."""
    content: dict[str, Any] = {**about(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> list[Row]:
    """The rows of a stored table; none if there is none."""
    return [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.is_file() else []


def elsewhere(path: Path) -> bool:
    """Whether a stored table is of another machine, or of other versions of the libraries."""
    stored, here = json.loads(path.read_text()), about()
    return any(stored[fact] != here[fact] for fact in ("machine", "versions"))


if __name__ == "__main__":
    print(json.dumps([asdict(row) for row in rows_of(sys.argv[1], " ".join(sys.argv[2:]))]))
