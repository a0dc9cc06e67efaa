"""Table 4. The strongest β % of the channels of X_res removed, or every token of X_res brought to length 1 (norm.).

Attention is q-q, the FFN is off. Values are means over datasets: the paper's over all eight benchmarks, for CLIP-B/16.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NEEDS = "beta"


def table(dataset: "xr.Dataset") -> "pd.DataFrame":
    """Rows are models, measured, published, difference; columns are β in % and the normalised X_res; mean mIoU in %."""
    import pandas as pd

    from analysis.sweeps import published
    from analysis.sweeps.read import by_beta, for_mean
    from analysis.sweeps.table import DIFFERENCE, MEASURED, PUBLISHED
    from clearclip.methods.recipes import Recipe
    from figures import tables

    datasets, recipes = for_mean(dataset, published.BENCHMARKS), Recipe.from_coords(dataset)
    shown = {label: (name, recipes[name]) for label, name in by_beta(dataset).items()}
    paper = "clip_vitb16"
    numbers = {label: published.mean(paper, published.BENCHMARKS, one) for label, (_, one) in shown.items()}
    printed = {label: number for label, number in numbers.items() if number is not None}
    whole = set(datasets) == set(published.BENCHMARKS)
    rows = []
    for model in dataset.model.values.tolist():
        means = dataset.miou.sel(model=model, dataset=datasets).mean("dataset", skipna=False)
        measured = {label: float(means.sel(recipe=name)) for label, (name, _) in shown.items()}
        about = {"model": model, "mean of": len(datasets)}
        rows.append({**about, "numbers": MEASURED, **measured})
        if model == paper and whole:
            difference = {label: measured[label] - printed[label] for label in printed}
            rows.append({**about, "numbers": PUBLISHED, **printed})
            rows.append({**about, "numbers": DIFFERENCE, **difference})
    if paper not in dataset.model.values or not whole:
        rows.insert(0, {"model": paper, "mean of": len(published.BENCHMARKS), "numbers": PUBLISHED, **printed})
    return tables.finished(pd.DataFrame(rows), dataset, ["model", "mean of", "numbers"], datasets)
