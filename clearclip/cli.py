"""What every command line shares: its options, each declared once, and how they are read.

A command's options are a frozen dataclass that is composed of the parts below; each part is a panel of its help.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from clearclip.arguments import refuse_empty, refuse_no_count, refuse_without_value
from clearclip.boundary import DEBUG_HELP
from clearclip.boundary import run as run  # for the doors, which call it cli.run
from clearclip.errors import UserError

if TYPE_CHECKING:  # doors answer --help at once, so what they call is imported when it is called
    from clearclip.datasets import LabelledPictures
    from clearclip.models.backbone import Backbone
    from clearclip.segmentation.text_embeddings import TextEmbeddings

T = TypeVar("T")

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Models:
    """Which models."""

    model: tuple[str, ...] = ()
    """One or several models, such as dino_vitb16 clip_vitb16, timm:<arch.tag> or open_clip:<arch>/<tag>; clip_tiny and
    dino_tiny are small and come with the package. With weights and a label of your own: after=dinov2_vits14:after.safetensors;
    a folder instead of the file gives one model for each checkpoint in it."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights (safetensors or weights-only .pt) instead of the hub's, one file for each model, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    positions: Literal["authors", "timm"] = "authors"
    """How DINO's and DINOv2's positions are resized at other than their own size: as their authors do, or as timm does."""
    ablate: tuple[str, ...] = ()
    """Beside each model as it is, the same model without something: layer=9,channel=4,162 or layer=11,head=3 or
    layer=5,neuron=7,12, each with to=mean for the mean in place of zero, or layer=9,clamp=3 for outlier tokens at most three
    times as long as the median. Several of them act together. Layers and heads count from 1."""
    registers: int = 0
    """Beside each model as it is, the same model with so many test-time registers, which take what the neurons that write
    outlier tokens would write; these neurons are found on the package's own pictures."""


@dataclass(frozen=True)
class Running:
    """How the pictures go through the models."""

    limit: int | None = None
    """Only the first so many pictures of each source or data set."""
    batch_size: int = 8
    """Pictures, or windows of them, in one forward pass."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps, …; by default the accelerator if there is one."""
    precision: Precision = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    strict: bool = False
    """Stop at the first picture or label that cannot be used, instead of naming, counting and skipping it."""


@dataclass(frozen=True)
class Labelled:
    """Which labelled pictures."""

    dataset: tuple[str, ...] = ("scenes",)
    """One or several of those that `python -m clearclip.datasets list` shows: benchmarks with their folders, such as
    voc20:data/voc (by default below data/); scenes, scenes_things and scenes_background (drawn); or a folder of your
    own with images/, labels/, classes.txt."""
    names: Literal["clearclip", "standard"] = "clearclip"
    """Class names of ClearCLIP's published run, or the data set's own."""
    split: str | None = None
    """By default val, and test for drawn scenes."""
    partial: bool = False
    """Use the complete pairs of a half-unpacked folder."""


@dataclass(frozen=True)
class Text:
    """How class names are put to the model."""

    prompts: str = "imagenet"
    """The prompt templates: imagenet (its 80), simple (7 of them), photo (one), or a text file with one template per line,
    each with {} for the name."""
    text_cache: Path | None = None
    """Where text embeddings are kept; by default clearclip/text in the user's cache folder."""
    text_embeddings: Path | None = None
    """Text embeddings of the classes from a file, in place of the model's text tower: .npy, .npz, .safetensors or weights-only
    .pt, found by their names or in the order of the classes. `clearclip text` writes such files."""


@dataclass(frozen=True)
class Scoring:
    """How recipes are applied and scored."""

    proxy: str | None = None
    """A second model for recipes that need one, such as dino_vitb8."""
    protocol: str = "clearclip"
    """Sizes, windows, thresholds and scales of each data set: those of clearclip, sclip, proxyclip or trident."""
    threshold: float | None = None
    """The score below which a pixel is background; by default the protocol's for each data set."""
    floss: int = 0
    """Choose the prompt templates of each class by how sure predictions on the first so many pictures are, without labels
    (FLOSS); 0 for the same templates everywhere."""


@dataclass(frozen=True)
class Result:
    """Where the result goes."""

    output: Path
    """The Dataset, a .nc file. The .csv goes beside it."""
    restart: bool = False
    """Set aside what an interrupted run has left beside the output, and start anew."""


# from options to what the rooms take ---------------------------------------------------------------------------------


def loaders(models: Models, running: Running) -> list[Callable[[], Backbone]]:
    """One loader for each model that was named, so that only one is in memory at a time; with interventions two for each."""
    from clearclip.models.load import loaders

    each = loaders(models.model, models.checkpoint, models.random, running.device, running.precision, models.positions)
    if not models.ablate and not models.registers:
        return each
    from clearclip.interventions.command_line import with_interventions

    return with_interventions(each, models.ablate, models.registers)


def datasets(labelled: Labelled) -> list[LabelledPictures]:
    """The data sets, all of them opened before anything runs; none twice."""
    from clearclip.datasets import parse

    opened = [parse(text, labelled.names, labelled.split, labelled.partial) for text in labelled.dataset]
    names = [dataset.name for dataset in opened]
    if not names or len(set(names)) != len(names):
        raise UserError(f"data sets {', '.join(names) or '(none)'}: at least one, and each name once.")
    return opened


def templates(text: Text) -> str | list[str]:
    """The name of a set of prompt templates, or the lines of a file."""
    path = Path(text.prompts)
    if not path.is_file():
        return text.prompts
    from clearclip.textfiles import read_lines

    return read_lines(path)


def text_cache(text: Text) -> Path:
    """The folder where text embeddings are kept."""
    from clearclip.segmentation.text import default_cache

    return text.text_cache or default_cache()


def text_embeddings(text: Text) -> TextEmbeddings | None:
    """The text embeddings of a file, if one is named."""
    if text.text_embeddings is None:
        return None
    if text.prompts != Text().prompts:
        raise UserError("--prompts are for the model's text tower, which --text-embeddings replaces: drop one of them.")
    from clearclip.segmentation.text_embeddings import text_embeddings

    return text_embeddings(text.text_embeddings)


def dataset_file(result: Result) -> Path:
    """Where the Dataset goes; raises `UserError` unless it is a .nc file."""
    if result.output.suffix != ".nc":
        raise UserError(f"{result.output}: the Dataset is written as NetCDF, so name a .nc file.")
    return result.output


def facts(options: Any) -> dict[str, Any]:
    """All options of a command by their names on the command line, as JSON has them.

    >>> facts(Running(limit=3))
    {'limit': 3, 'batch_size': 8, 'device': None, 'precision': 'fp32', 'strict': False}
    """
    leaves: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        leaves |= facts(value) if is_dataclass(value) else {field.name: value}
    return json.loads(json.dumps(leaves, default=str))


def of_view(options: Any) -> set[str]:
    """The names of the options that only say what of a Dataset is shown."""
    return set(facts(options.view)) if hasattr(options, "view") else set()


# reading a command line ----------------------------------------------------------------------------------------------


STYLE = (
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.DisallowNone,
    tyro.conf.PositionalMetavarFromFieldName,
)


def parse(kind: type[T], question: str | None) -> T:
    """The options of a command from the command line; a wrong one exits with code 2 and says what is allowed."""
    words = sys.argv[1:]
    refuse_empty(words)
    description = f"{(question or '').strip()}\n\n{DEBUG_HELP}"
    options = tyro.cli(kind, prog=program(), description=description, config=STYLE, registry=QUIET)
    refuse_without_value(words, facts(options))
    refuse_no_count(facts(options))
    return options


def program() -> str:
    """What a command calls itself: "clearclip entropy" where it was started so, otherwise "python -m analysis.entropy"."""
    spec = sys.modules["__main__"].__spec__
    module = None if spec is None else spec.name.removesuffix(".__main__")
    return Path(sys.argv[0]).name if module in (None, "clearclip", "analysis") else f"python -m {module}"


QUIET = ConstructorRegistry()
_asked: set[type] = set()  # which types the rule below is at work on, so that it does not answer its own question


@QUIET.struct_rule
def without_empty_defaults(info: StructTypeInfo) -> StructConstructorSpec | None:
    """No "(default: None)" and no "(default: )": where a default is no value, the help says in words what happens."""
    if not is_dataclass(info.type) or info.type in _asked:
        return None
    _asked.add(info.type)
    spec = ConstructorRegistry.get_struct_spec(info)
    _asked.discard(info.type)
    if not isinstance(spec, StructConstructorSpec):
        return None
    quiet = tyro.conf.arg(help_behavior_hint="")
    return replace(
        spec,
        fields=tuple(
            replace(field, type=Annotated[field.type, quiet])  # type: ignore[arg-type]
            if any(field.default is nothing for nothing in (None, False, (), ""))
            else field
            for field in spec.fields
        ),
    )
