"""What there is to draw, in the paper's order, and which command computes the Dataset that each drawing reads."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from clearclip.errors import UserError, closest
from clearclip.models.names import ALIASES, SHIPPED

FIGURES = (
    *("fig1", "fig1_radar", "fig2", "fig3", "fig4a", "fig4b", "fig4c"),
    *("fig5", "fig6", "fig7", "fig8", "fig9", "fig10", "fig11"),
)
TABLES = ("table1", "table2", "table3", "table4", "table5")
BEYOND = ("layers", "prototypes", "tokens")
PICTURES = 4  # rows of the figures that show label maps
# what does not change the numbers
NO_EFFECT = ("output", "figure", "device", "batch-size", "text-cache", "strict", "data")


@dataclass(frozen=True)
class Entry:
    """One figure or table: a module of this package."""

    name: str
    kind: Literal["figure", "table"]

    @property
    def module(self) -> ModuleType:
        """The module; its docstring is the caption."""
        return import_module(f"figures.{self.name}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs whose Datasets it reads, in the order of its arguments."""
        needs: str | tuple[str, ...] = self.module.NEEDS
        return (needs,) if isinstance(needs, str) else needs

    @property
    def caption(self) -> str:
        """What is shown, as one text with a blank line between paragraphs."""
        return (self.module.__doc__ or "").strip()


ENTRIES: dict[str, Entry] = {
    name: Entry(name, "table" if name in TABLES else "figure") for name in (*FIGURES, *TABLES, *BEYOND)
}


@dataclass(frozen=True)
class Choice:
    """Which models, data sets and pictures everything is drawn from."""

    model: tuple[str, ...] = ("clip_tiny",)
    against: tuple[str, ...] = ("dino_tiny",)  # for the comparisons that need no text
    dataset: tuple[str, ...] = ()  # name:folder
    images: tuple[str, ...] = ()
    checkpoint: tuple[Path, ...] = ()  # one for each of model and against, - for none
    random: bool = False
    limit: int | None = None
    device: str | None = None
    precision: str = "fp32"
    batch_size: int = 8

    @property
    def everyone(self) -> tuple[str, ...]:
        """All models."""
        return (*self.model, *self.against)

    def about(self, models: Sequence[str]) -> list[str]:
        """The options that name models, and how they are loaded and run."""
        words = ["--model", *models]
        files = dict(zip(self.everyone, map(str, self.checkpoint), strict=False))
        if any(files.get(model, "-") != "-" for model in models):
            words += ["--checkpoint", *(files.get(model, "-") for model in models)]
        words += ["--random"] if self.random else []
        words += ["--device", self.device] if self.device else []
        words += ["--precision", self.precision] if self.precision != "fp32" else []
        return [*words, "--batch-size", str(self.batch_size)] if self.batch_size != 8 else words

    @property
    def limited(self) -> list[str]:
        """The option that says how many pictures are used."""
        return [] if self.limit is None else ["--limit", str(self.limit)]


DEMO = Choice(dataset=("scenes", "scenes_background"), images=("photographs", "scenes"), limit=32)


@dataclass(frozen=True)
class Run:
    """One analysis command and its arguments for a choice.

    `recipes` is how many it evaluates in one pass, `cost` what a picture takes, in plain passes, where it has no recipes.
    """

    name: str
    command: str  # the module
    arguments: Callable[[Choice], list[str]]
    text: bool = True  # needs a model with a text tower
    labels: bool = True  # needs a data set with labels
    recipes: int = 1
    cost: float = 1.1

    def missing(self, choice: Choice) -> str:
        """Why it cannot be computed for a choice, or nothing."""
        if self.text and not readers(choice):
            return "needs a model with a text tower"
        if self.labels and not choice.dataset:
            return "needs a data set with labels: name one with --dataset"
        return ""

    def words(self, choice: Choice, output: Path) -> list[str]:
        """The whole command after `python -m`."""
        return [self.command, *self.arguments(choice), "--output", str(output)]


def readers(choice: Choice) -> tuple[str, ...]:
    """The models of a choice that have a text tower.

    >>> readers(DEMO), readers(Choice(("dinov2_vits14",), ()))
    (('clip_tiny',), ())
    """
    kinds = ("open_clip:", "transformers:", "zoo:clip")
    return tuple(model for model in choice.everyone if ALIASES.get(model, model).startswith(kinds))


def _pictures(choice: Choice) -> list[str]:
    """Where the pictures of statistics come from: those that were named, else the first data set on disk, else photographs."""
    found = []
    for text in choice.dataset:
        name, colon, root = text.partition(":")
        if name == "folder" or (not colon and Path(text).is_dir()):
            found.append(str(Path(root or text, "images")))
        elif colon:
            found.append(text)
    return ["--images", *(choice.images or found[:1] or ("photographs",))]


def _statistics(choice: Choice) -> list[str]:
    return [*choice.about(choice.everyone), *_pictures(choice), *choice.limited]


def _featuremaps(choice: Choice) -> list[str]:
    _, *sources = _pictures(choice)
    limit = "2" if len(sources) == 1 else "1"  # of each source; every picture takes a row a model
    return [*choice.about(choice.everyone), "--images", *sources, "--limit", limit]


def _sweep(choice: Choice) -> list[str]:
    return [*choice.about(readers(choice)), "--dataset", *choice.dataset, *choice.limited]


def _prototypes(choice: Choice) -> list[str]:
    return [*choice.about(choice.everyone), "--dataset", *choice.dataset, *choice.limited]


def _norms(choice: Choice) -> list[str]:
    return ["--miou", *_sweep(choice)]


def _maps(wanted: str, turn: int) -> Callable[[Choice], list[str]]:
    """Pictures of the benchmark that the paper shows; where it was not named, others of the first data set."""

    def arguments(choice: Choice) -> list[str]:
        there = [one for one in choice.dataset if one.partition(":")[0] == wanted]
        first = [] if there else ["--first", str(turn * PICTURES)]
        words = [*choice.about(readers(choice)[:1]), "--dataset", (there or choice.dataset)[0], *first]
        return [*words, "--limit", str(PICTURES)]

    return arguments


RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run("statistics", "analysis.entropy", _statistics, text=False, labels=False),
        Run("featuremaps", "analysis.featuremaps", _featuremaps, text=False, labels=False),
        Run("tokens", "analysis.tokens", _statistics, text=False, labels=False, cost=4.0),
        Run("maps_fig7", "analysis.maps", _maps("coco_stuff", 0), recipes=7),
        Run("maps_fig10", "analysis.maps", _maps("ade20k", 1), recipes=7),
        Run("maps_fig11", "analysis.maps", _maps("context59", 2), recipes=7),
        Run("norms_miou", "analysis.norms", _norms, recipes=5),
        Run("ablation", "analysis.ablation", _sweep, recipes=20),
        Run("alpha", "analysis.alpha", _sweep, recipes=30),
        Run("beta", "analysis.beta", _sweep, recipes=8),
        Run("compare", "analysis.compare", _sweep, recipes=12),
        Run("layers", "analysis.layers", _sweep, recipes=36),
        Run("prototypes", "analysis.prototypes.__main__", _prototypes, text=False, cost=2.5),
    )
}


def entries(names: Sequence[str] = ()) -> list[Entry]:
    """The figures and tables of these names, all for none; fig4 stands for fig4a, fig4b and fig4c.

    Raises `UserError` with the closest names.

    >>> [entry.name for entry in entries(["fig4", "table1"])]
    ['fig4a', 'fig4b', 'fig4c', 'table1']
    """
    chosen: dict[str, Entry] = {}
    for name in names or ENTRIES:
        parts = [one for one in ENTRIES if one[:-1] == name]
        if name in ENTRIES:
            parts = [name]
        if not parts:
            raise UserError(
                f"there is no figure or table {name!r}. Closest: {closest(name, list(ENTRIES))}. All: {', '.join(ENTRIES)}."
            )
        chosen.update({one: ENTRIES[one] for one in parts})
    return list(chosen.values())


def facts(command: str | Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What a command line says about its numbers: the module, and the values of each option that can change them.

    >>> facts("python -m analysis.maps --model clip_tiny --limit=2 --output a.nc")
    {'': ('analysis.maps',), 'model': ('clip_tiny',), 'limit': ('2',)}
    """
    words = shlex.split(command) if isinstance(command, str) else list(command)
    found: dict[str, tuple[str, ...]] = {"": ()}
    option = ""
    for word in words[2:] if words[:2] == ["python", "-m"] else words:
        if word.startswith("--"):
            option, _, word = word[2:].replace("_", "-").partition("=")
            found[option] = (word,) if word else ()
        else:
            found[option] += (word,)
    return {name: values for name, values in found.items() if name not in NO_EFFECT}


def state(words: Sequence[str], path: Path) -> Literal["finished", "other facts", "missing"]:
    """Whether a Dataset is there, and whether the very command that would be run has written it."""
    import xarray as xr

    if not path.is_file():
        return "missing"
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            written = str(dataset.attrs.get("command", ""))
    except (OSError, ValueError):
        return "other facts"
    return "finished" if facts(written) == facts(words) else "other facts"


def small(models: Sequence[str]) -> list[str]:
    """Those of some models that come with the package."""
    return [model for model in models if model in SHIPPED]
