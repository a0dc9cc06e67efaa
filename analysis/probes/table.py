"""Statistics as tables: layers × features as text, and one row for each number."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from analysis.probes import over_images


def layer_table(dataset: xr.Dataset, variable: str, tokens: str = "patches") -> str:
    """Means over the images, layers × features, with columns for each model and a table for each source of pictures."""
    about = f"{dataset[variable].attrs['long_name']} [{dataset[variable].attrs['units']}]"
    lines = []
    for source, values in sorted(over_images.by_source(dataset[variable].sel(tokens=tokens)), key=_source):
        means = over_images.mean(values).transpose("layer", "model", "feature")
        table = means.stack(column=("model", "feature")).to_pandas()
        lines.append(f"{about}, {tokens} tokens, mean over {over_images.count(values)} images of {source}")
        lines.append(table.to_string(float_format=lambda value: f"{value:.4g}", na_rep=""))
    return "\n".join(lines)


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per source, model, layer, feature, tokens and statistic: mean and standard deviation over the images."""
    frames = []
    for name, variable in dataset.data_vars.items():
        if {"image", "moment"} & set(variable.dims):
            for source, values in sorted(over_images.by_source(variable), key=_source):
                frame = _rows(over_images.mean(values), "mean")
                frame["std"] = _rows(over_images.std(values), "std")["std"]
                frame.insert(0, "source", source)
                frame.insert(5, "statistic", str(name))
                frame["images"] = over_images.count(values)
                frames.append(frame)
    rows = pd.concat(frames, ignore_index=True).dropna(subset="mean")
    return with_origin(rows, dataset)


def _source(pair: tuple[str, xr.DataArray]) -> str:
    return pair[0]


def with_origin(rows: pd.DataFrame, dataset: xr.Dataset) -> pd.DataFrame:
    """The rows with a column that says whether their model has random weights."""
    random = dict(zip(dataset.model.values.tolist(), dataset.random_weights.values.tolist(), strict=True))
    return rows.assign(random_weights=rows["model"].map(random))


def _rows(values: xr.DataArray, name: str) -> pd.DataFrame:
    """A variable as rows, its dimensions as columns, without other coordinates."""
    return values.reset_coords(drop=True).to_dataframe(name).reset_index()
