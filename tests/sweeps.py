"""A small sweep Dataset with values from a formula, so that every number of a figure or table can be told in advance."""

import numpy as np
import xarray as xr

from clearclip.methods.recipes import Recipe

SIZES = {"voc20": 20, "voc21": 21, "scenes": 26, "scenes_background": 19}


def miou(model: int, dataset: int, recipe: int) -> float:
    """The mIoU in % at three indices.

    >>> miou(0, 0, 0), miou(1, 2, 3)
    (10.0, 34.5)
    """
    return 10.0 + 4.0 * model + 7.0 * dataset + 2.0 * recipe + (0.5 if recipe % 2 else 0)


def sweep(
    recipes: list[Recipe],
    models: tuple[str, ...] = ("clip_vitb16",),
    datasets: tuple[str, ...] = ("voc20",),
    norms: bool = False,
    random: tuple[str, ...] = (),
) -> xr.Dataset:
    """A Dataset as the sweep commands write it, with `miou` at its indices and classes around it."""
    shape = (len(models), len(datasets), len(recipes))
    values = np.array(
        [[[miou(m, d, r) for r in range(shape[2])] for d in range(shape[1])] for m in range(shape[0])]
    ).reshape(shape)
    classes = ["thing", "ground"]
    iou = np.stack([values + 1, values - 1], -1)
    cells = ("model", "dataset", "recipe")
    percent, pixels = {"units": "%"}, {"units": "pixels"}
    variables = {
        "iou": ((*cells, "class"), iou, {"long_name": "IoU", **percent}),
        "intersection": ((*cells, "class"), np.round(iou * 10), {"long_name": "intersection", **pixels}),
        "union": ((*cells, "class"), np.full(iou.shape, 1000.0), {"long_name": "union", **pixels}),
        "miou": (cells, values, {"long_name": "mIoU", **percent}),
        "pixel_accuracy": (cells, values + 20, {"long_name": "pixel accuracy", **percent}),
        "threshold": (("dataset", "recipe"), np.zeros(shape[1:]), {"long_name": "threshold", "units": "1"}),
        "images": (("model", "dataset"), np.full(shape[:2], 1449.0), {"long_name": "images", "units": "1"}),
    }
    if norms:
        attn = 40.0 + 10.0 * np.arange(shape[2]) + 100.0 * np.arange(shape[0])[:, None, None] + np.zeros(shape)
        units = {"units": "model units"}
        res = np.broadcast_to(attn[..., :1] + 60, shape)
        variables["x_res_norm"] = (cells, res, {"long_name": "‖X_res‖", **units})
        variables["x_attn_norm"] = (cells, attn, {"long_name": "‖X_attn‖", **units})
    coords = {
        "model": list(models),
        "dataset": list(datasets),
        **Recipe.to_coords(recipes),
        "class": classes,
        "architecture": ("model", [f"zoo:{one}" if one.endswith("_tiny") else f"open_clip:{one}" for one in models]),
        "weights": ("model", [f"{one}, shipped" if one.endswith("_tiny") else "openai" for one in models]),
        "weights_sha256": ("model", ["0" * 64 for _ in models]),
        "random_weights": ("model", [one in random for one in models]),
        "precision": ("model", ["fp32" for _ in models]),
        "preprocessing": ("model", ["{}" for _ in models]),
        "patch_size": ("model", [16 for _ in models]),
        "prefix_tokens": ("model", [1 for _ in models]),
        "split": ("dataset", ["val" for _ in datasets]),
        "data_sha256": ("dataset", ["1" * 64 for _ in datasets]),
        "windows": ("dataset", ["whole" for _ in datasets]),
        "class_names": ("dataset", ["clearclip" for _ in datasets]),
    }
    attrs = {"command": "python -m analysis.ablation", "created": "2026-01-01T00:00:00+00:00", "skipped": "[]"}
    return xr.Dataset(variables, coords, {**attrs, "libraries": "torch 2"})
