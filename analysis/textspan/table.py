"""Texts of heads: one Dataset over models, its table and lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from analysis.probes.table import with_origin
from clearclip.errors import UserError
from clearclip.runs import results

SHOWN = 12  # heads that are printed for each model
TOKENS = {"cls": "the CLS token", "patches": "all patches"}


def read(path: Path) -> xr.Dataset:
    """Read a Dataset; raises `UserError` if the file is missing or holds something else."""
    return results.read(path, "texts of heads")


def tokens(dataset: xr.Dataset) -> str:
    """What the heads add to, in words; raises `UserError` for tokens that do not exist."""
    which = dataset.attrs["tokens"]
    if which not in TOKENS:
        raise UserError(f"tokens {which!r}: texts of heads are of {' or '.join(TOKENS)}.")
    return TOKENS[which]


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of several models; layers and heads that one does not have are empty and NaN there.

    Raises: `UserError` if they are of different pictures.
    """
    if len(parts) == 1:
        return parts[0]
    results.refuse_other_data("pictures", (part.attrs["image_list_sha256"] for part in parts))
    axes = {dim: sorted({label for part in parts for label in part[dim].values.tolist()}) for dim in ("layer", "head")}
    whole = [part.reindex(axes, fill_value={"text": ""}) for part in parts]
    return results.joined(whole, "model").assign_attrs(skipped=results.skipped(parts))


def panels(dataset: xr.Dataset) -> Iterator[xr.Dataset]:
    """What belongs to one model, one after another, without the layers and heads that the model does not have."""
    for model in dataset.model.values:
        panel = dataset.sel(model=model)
        there = panel.variance.notnull()
        yield panel.sel(layer=there.any("head"), head=there.any("layer"))


def strongest(panel: xr.Dataset, count: int) -> xr.Dataset:
    """The heads of one model whose contributions vary most.

    Returns: `text` and `gain` (row, rank), the share of the variance that each text adds, with `layer` and `head` along `row`,
    in their order.
    """
    rows = panel[["text", "variance_share", "variance"]].reset_coords(drop=True).stack(row=("layer", "head"))
    most = np.sort(np.argsort(-rows.variance.values, kind="stable")[:count])
    chosen = rows.isel(row=most).reset_index("row").transpose("row", "rank")
    gains = np.diff(chosen.variance_share.values, axis=1, prepend=0)
    return chosen.assign(gain=(("row", "rank"), gains))


def report(dataset: xr.Dataset) -> str:
    """The first texts of the heads that vary most, model by model."""
    lines = []
    for panel in panels(dataset):
        rows = strongest(panel, SHOWN)
        every = panel.sizes["layer"] * panel.sizes["head"]
        which = f"the {SHOWN} of {every} heads that vary most" if every > SHOWN else f"all {every} heads"
        lines.append(
            f"{panel.model.item()}, {tokens(dataset)} of {dataset.attrs['images']} pictures, "
            f"{int(panel.pool_size)} texts ({panel['pool'].item()}): {which}, "
            "each text with the share of the variance that it adds"
        )
        for i in range(rows.sizes["row"]):
            row = rows.isel(row=i)
            pairs = zip(row.text.values.tolist(), row.gain.values.tolist(), strict=True)
            texts = [f"{text} ({gain:.0%})" for text, gain in pairs if text]
            where = f"layer {row['layer'].item()} head {row['head'].item()}"
            lines.append(f"{where}: {', '.join(texts) or 'adds the same to every token'}")
    return "\n".join(lines)


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, layer, head and rank: the text, the cumulative share, and the head's variance."""
    rows = dataset[["text", "variance_share", "variance"]].reset_coords(drop=True).to_dataframe().reset_index()
    return with_origin(rows.dropna(subset="variance_share"), dataset)
