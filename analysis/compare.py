"""How do the methods compare, and do they reach the published numbers? (Paper Tables 2, 3 and 5)

    python -m analysis.compare --model clip_vitb16 clip_vitl14 --dataset voc20:data/voc ade20k:data/ade

The table has measured and published mIoU of every method, and their difference.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.sweep import SweepOptions, sweep_command
from clearclip.cli import options, run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.methods.recipes import Recipe

MEASURED, PUBLISHED, DIFFERENCE = "measured", "published", "difference"


def recipes() -> "list[Recipe]":
    """Every method that needs no second model.

    >>> [one.name for one in recipes()][:6]
    ['clip', 'maskclip', 'sclip', 'clip_surgery', 'gem', 'clearclip']
    """
    from clearclip.methods.recipes import RECIPES

    return [one for one in RECIPES.values() if "proxy" not in one.affinity]


def beside(
    dataset: "xr.Dataset",
    printed: "pd.DataFrame",
    wanted: "Sequence[Recipe]",
    columns: Sequence[str],
    mean_of: Sequence[str],
) -> "pd.DataFrame":
    """Measured beside published mIoU in %: for each method and model a row `measured`, `published`, `difference`.

    `printed` is of `published.table`'s form and gives the order; what of `wanted` was measured and is not in it follows.
    `columns` are datasets; a mean is shown where all of `mean_of` are known. Columns: recipe, method, model, numbers, the
    datasets by their own names, and "mean of k" if k > 1.
    """
    import pandas as pd

    from analysis.plots import panels as sweep_plot

    names = {one.name: name for one in wanted if (name := sweep_plot.find(dataset, one))}
    waiting = {(model, recipe): None for model in dataset.model.values.tolist() for recipe in names}
    blocks: list[tuple[dict[str, Any], dict[str, float], tuple[str, str] | None]] = []
    groups = [rows for _, rows in printed.groupby(["method", "encoder", "recipe"], sort=False, dropna=False)]
    groups.sort(key=lambda rows: not rows.origin.iloc[0].startswith("run"))  # those that were run are compared with
    matched: dict[int, tuple[str, str]] = {}
    for rows in groups:
        who = (rows.model.iloc[0], rows.recipe.iloc[0])
        if who in waiting:
            del waiting[who]
            matched[rows.index[0]] = who
    for rows in sorted(groups, key=lambda rows: rows.index[0]):
        first = rows.iloc[0]
        model = first.model if isinstance(first.model, str) else first.encoder
        head = {"recipe": first.recipe, "method": first.method, "model": model}
        blocks.append((head, dict(zip(rows.dataset, rows.miou, strict=True)), matched.get(rows.index[0])))
    for model, recipe in waiting:
        head = {"recipe": recipe, "method": sweep_plot.METHOD_LABEL.get(recipe, recipe), "model": model}
        blocks.append((head, {}, (model, recipe)))
    lines = []
    for head, published, place in blocks:
        values = {PUBLISHED: _row(published, columns, mean_of)}
        if place is not None:
            one = dataset.miou.sel(model=place[0], recipe=names[place[1]])
            there = {name: float(one.sel(dataset=name)) for name in dataset.dataset.values.tolist()}
            values = {MEASURED: _row(there, columns, mean_of), **values}
            values[DIFFERENCE] = {
                column: values[MEASURED][column] - values[PUBLISHED][column] for column in values[MEASURED]
            }
        lines += [
            {**head, "numbers": numbers, **row}
            for numbers, row in values.items()
            if numbers == MEASURED or any(cell == cell for cell in row.values())
        ]
    return pd.DataFrame(lines)


def _row(values: dict[str, float], columns: Sequence[str], mean_of: Sequence[str]) -> dict[str, float]:
    """One line's numbers, NaN where there is none."""
    row = {name: values.get(name, float("nan")) for name in columns}
    if len(mean_of) > 1:
        row[f"mean of {len(mean_of)}"] = sum(values.get(name, float("nan")) for name in mean_of) / len(mean_of)
    return row


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Rows are models and methods, each measured, published and their difference; columns are datasets; mIoU in %."""
    from analysis.plots import panels as sweep_plot
    from analysis.sweeps import published

    wanted = [sweep_plot.recipe_of(dataset, name) for name in dataset.recipe.values.tolist()]
    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    known = published.everything()
    known = known[
        known.model.isin(models) & known.dataset.isin(names) & known.recipe.isin([one.name for one in wanted])
    ]
    known = known.drop_duplicates(["model", "recipe", "dataset"])
    known = known.assign(encoder=known.model, method=known.recipe.replace(sweep_plot.METHOD_LABEL), origin="run")
    rows = beside(dataset, known, wanted, names, sweep_plot.for_mean(dataset))
    order = {name: place for place, name in enumerate(dataset.recipe.values.tolist())}
    rows = rows.sort_values(
        ["model", "recipe"],
        key=lambda column: column.map({**order, **{m: i for i, m in enumerate(models)}}),
        kind="stable",
    )
    return rows.drop(columns="recipe").set_index(["model", "method", "numbers"])


def figure(dataset: "xr.Dataset") -> "Figure":
    """mIoU of every method; a row a model, a column a dataset, coloured by what is left of the last block, published values
    as open markers."""
    from analysis.plots import panels as sweep_plot
    from analysis.sweeps import published
    from clearclip.segmentation.style import style

    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    chosen = [sweep_plot.recipe_of(dataset, name) for name in dataset.recipe.values.tolist()]
    variants = [_variant(one) for one in chosen]
    with style():
        drawn, grid = sweep_plot.dataset_grid(dataset, 0.25 + 0.13 * len(chosen), sharex=False, sharey=True)
        for row, model in zip(grid, models, strict=True):
            for panel, name in zip(row, names, strict=True):
                values = dataset.miou.sel(model=model, dataset=name, recipe=[one.name for one in chosen]).values
                colors = [sweep_plot.VARIANT_STYLE[variant]["color"] for variant in variants]
                panel.barh(range(len(chosen)), values, 0.75, color=colors)
                for place, one in enumerate(chosen):
                    number = published.value(model, name, one)
                    if number is not None:
                        sweep_plot.mark_published(panel, number, place)
                labels = [sweep_plot.METHOD_LABEL.get(one.name, one.name) for one in chosen]
                panel.set_yticks(range(len(chosen)), labels)
                panel.tick_params(axis="x", labelrotation=0)
                panel.set_ylim(len(chosen) - 0.4, -0.6)
                panel.grid(axis="y", visible=False)
                if model == models[-1]:
                    panel.set_xlabel("mIoU (%)")
            row[0].set_ylabel(row[0].get_ylabel().replace("\nmIoU (%)", ""))
        used = [variant for variant in sweep_plot.VARIANT_STYLE if variant in variants]
        sweep_plot.bar_legend(drawn, sweep_plot.VARIANT_STYLE, used)
        sweep_plot.caption(drawn, dataset, names)
    return drawn


def _variant(recipe: "Recipe") -> str:
    from analysis.ablation import VARIANTS

    return next(name for name, flags in VARIANTS.items() if flags == (recipe.residual, recipe.ffn))


def main() -> None:
    """The command `python -m analysis.compare`."""
    chosen = options(SweepOptions, __doc__ or "")
    sweep_command(chosen, "compare", recipes(), figure, table)


if __name__ == "__main__":
    run(main)
