"""A measured mIoU beside the published one, and whether they are the same number."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from clearclip.datasets import facts
from clearclip.errors import UserError
from clearclip.evaluation import published
from clearclip.evaluation.bootstrap import interval
from clearclip.evaluation.published import Printed
from clearclip.models.load import resolve

TOLERANCE = 0.3  # percentage points; the authors ran in half precision


@dataclass(frozen=True)
class Outcome:
    """One published number and what was measured.

    Args:
        recipe: what was measured.
        dataset: the benchmark's title.
        printed: the published number and where it stands.
        measured: mIoU in percent.
        low, high: its 95 % interval over pictures.
        pictures: how many were used.
        complete: whether these are all pictures of the published split.
    """

    recipe: str
    dataset: str
    printed: Printed
    measured: float
    low: float
    high: float
    pictures: int
    complete: bool

    @property
    def differs(self) -> bool:
        """Whether a complete measurement is further away than ± 0.3; a partial or another protocol's says nothing."""
        return self.complete and self.printed.own and not abs(self.measured - self.printed.miou) <= TOLERANCE

    def __str__(self) -> str:
        printed = self.printed
        weights = f" ({printed.origin})" if printed.origin.startswith("run with the weights") else ""
        sentence = (
            f"{printed.source}, row {printed.method}{weights}, {self.dataset}: published {printed.miou:.1f}, "
            f"measured {self.measured:.1f}, "
            f"difference {self.measured - printed.miou:+.1f}"
        )
        if not printed.own:
            return f"{sentence}; {printed.origin}, so under another protocol"
        if self.complete:
            within = "NOT within" if self.differs else "within"
            return (
                f"{sentence}, {within} ± {TOLERANCE:g} (95 % interval over pictures {self.low:.1f} … {self.high:.1f})"
            )
        inside = "inside" if self.low <= printed.miou <= self.high else "outside"
        return (
            f"{sentence}; partial, {self.pictures} pictures: 95 % interval {self.low:.1f} … {self.high:.1f} "
            f"(bootstrap over pictures), the published number is {inside}"
        )


def expected(architecture: str, dataset: str, recipes: Sequence[str]) -> dict[str, Printed]:
    """Those of some recipes that have a published number for a model on a benchmark, with the number.

    Raises:
        UserError: nothing is published of these; what there is gets named.

    >>> expected("open_clip:ViT-B-16-quickgelu/openai", "voc20", ["clearclip"])["clearclip"].miou
    80.9
    """
    known = {resolve(name): name for name in published.MODELS.values()}
    model = known.get(architecture)
    printed = {} if model is None else published.printed(model, dataset)
    rows = {recipe: printed[recipe] for recipe in recipes if recipe in printed}
    if rows:
        return rows
    models = [name for name in known.values() if published.printed(name, dataset)]
    there = (
        f"there are numbers of the recipes {', '.join(printed)}"
        if printed
        else f"there are numbers of the models {', '.join(models)}"
        if models
        else f"the benchmarks are {', '.join(name for name in published.COLUMNS.values() if 'mean' not in name)}"
    )
    raise UserError(f"nothing is published of {model or architecture}, {', '.join(recipes)}, on {dataset}; {there}.")


def outcomes(result: xr.Dataset, printed: Mapping[str, Printed], due: Collection[int]) -> list[Outcome]:
    """A result of `evaluate(…, per_image=True)` beside the published numbers.

    Args:
        result: of one model on one benchmark.
        printed: the published number of each recipe.
        due: how many pictures the published split has.
    """
    of_one = result.isel(model=0, dataset=0)
    pictures = int(of_one.images)
    rows = []
    for recipe in of_one.recipe.values.tolist():
        row = of_one.sel(recipe=recipe)
        low, high = interval(row.image_intersection.values, row.image_union.values)
        title = facts(of_one.dataset.item()).title
        rows.append(Outcome(recipe, title, printed[recipe], float(row.miou), low, high, pictures, pictures in due))
    return rows


def protocol(result: xr.Dataset) -> list[str]:
    """How a result was measured, in a few lines."""
    of_one = result.isel(model=0, dataset=0)
    thresholds = of_one.threshold.to_series().to_dict()
    return [
        f"model {of_one.architecture.item()}, weights {of_one.weights.item()}, SHA-256 {of_one.weights_sha256.item()}",
        f"data set {of_one.dataset.item()}, {of_one.split.item()}, {int(of_one.images)} pictures, class names of ClearCLIP's run",
        f"protocol {of_one.protocol.item()}, windows {of_one.windows.item()}",
        f"prompts {result.attrs['prompts']}; precision {of_one.precision.item()}",
        "background threshold " + ", ".join(f"{recipe} {value:g}" for recipe, value in thresholds.items()),
    ]
