"""Where does a token look? Attention maps of chosen layers and heads, from q-k, q-q, k-k or v-v products.

    python -m analysis.attention --model dino_vitb16 --layers 12 --affinity qk qq kk vv

Without --query the CLS token asks (the mean over all patches, where there is no CLS); --query ROW COLUMN asks a patch.
The library's fused attention stays on: the maps are computed beside it from the block's own q, k and v.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from analysis.commands import Options, announce, load_one_by_one, paths, with_origin
from clearclip.cli import options, run
from clearclip.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.figure import Figure
    from torch import Tensor

    from analysis.probes.images import Picture
    from clearclip.models.backbone import Backbone

THUMBNAIL = 224  # pixels of the photo that is kept beside its maps
AFFINITIES = ("qk", "qq", "kk", "vv")


@dataclass(frozen=True)
class AttentionOptions(Options):
    """Which model, which pictures, which layers, heads and products, and where the results go."""

    limit: int | None = 3
    """Only the first so many pictures."""
    affinity: tuple[Literal["qk", "qq", "kk", "vv"], ...] = ("qk", "qq")
    """Which products: qk is the model's own attention, the others are self-self attention."""
    heads: tuple[int, ...] = ()
    """Only these heads, counted from 1; the figure shows the mean over the heads that are in the Dataset."""
    query: tuple[int, int] | None = None
    """Row and column (from 0) of the patch that asks; by default the CLS token does."""


def attention_maps(
    model: "Backbone",
    images: "Tensor",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    affinities: Sequence[str] = ("qk",),
) -> "dict[tuple[int, str], Tensor]":
    """softmax(s · a·bᵀ) for each layer and product ab, (B, heads, L, L) on the device; s = head width ^ -½.

    Layers and heads count from 1; all of them for None. "qk" equals what the model itself uses. Computed from the
    block's inputs in one pass; the model's fused attention is not switched off.

    Raises `UserError` for layers, heads or products that do not exist.

    >>> import clearclip, torch
    >>> maps = attention_maps(clearclip.load("dino_vits16", random=True), torch.zeros(1, 3, 32, 32), [12], affinities=["qq"])
    >>> maps[12, "qq"].shape, bool(maps[12, "qq"].sum(-1).allclose(torch.tensor(1.0)))
    (torch.Size([1, 6, 5, 5]), True)
    """
    import torch

    unknown = [name for name in affinities if name not in AFFINITIES]
    if unknown:
        raise UserError(f"affinities {unknown}: choose from {', '.join(AFFINITIES)}.")
    wrong = [head for head in heads or () if not 1 <= head <= model.heads]
    if wrong:
        raise UserError(f"heads {wrong}: {model.name} has heads 1 … {model.heads}.")
    chosen = [head - 1 for head in heads] if heads else list(range(model.heads))
    maps = {}
    for layer, seen in model.block_inputs(images, layers).items():
        block = model.blocks[layer - 1]
        with model.autocast():
            parts = dict(zip("qkv", block.qkv(block.norm1(seen.x), seen.rope), strict=True))
        for name in affinities:
            a, b = (parts[letter][:, chosen].float() for letter in name)  # (B, heads, L, C)
            with torch.autocast(a.device.type, enabled=False):  # also where the caller has one: the maps are float32
                maps[layer, name] = torch.softmax(a @ b.mT * a.shape[-1] ** -0.5, -1)
    return maps


def asked(model: "Backbone", pictures: "list[Picture]", chosen: AttentionOptions) -> "xr.Dataset":
    """Attention of the asking token over the patches, (model, image, layer, affinity, head, row, column) float32."""
    import numpy as np
    import torch
    import xarray as xr

    from analysis.probes.collection import describe_model

    layers, heads = model.layers(chosen.layers or (model.depth,)), chosen.heads or tuple(range(1, model.heads + 1))
    rows, columns = model.grid(chosen.image_size)
    if chosen.query is not None and not (0 <= chosen.query[0] < rows and 0 <= chosen.query[1] < columns):
        raise UserError(f"query {chosen.query}: {model.name} sees {rows} × {columns} patches, counted from 0.")
    transform, first = model.transform(chosen.image_size), model.prefix_tokens
    collected, photos = [], []
    with torch.inference_mode():
        for picture in pictures:
            image = transform(picture.read())  # (3, H, W)
            photos.append(_thumbnail(image, model.preprocessing))
            maps = attention_maps(model, image[None], layers, heads, chosen.affinity)
            stacked = torch.stack([torch.stack([maps[layer, name][0] for name in chosen.affinity]) for layer in layers])
            if chosen.query is not None:
                one = stacked[..., first + chosen.query[0] * columns + chosen.query[1], first:]
            else:
                one = stacked[..., 0, first:] if first else stacked.mean(-2)  # (layer, affinity, head, hw)
            collected.append(one.unflatten(-1, (rows, columns)).cpu().numpy())
    query = f"patch {chosen.query}" if chosen.query else "CLS" if first else "mean over patches"
    dataset = xr.Dataset(
        {
            "attention": (
                ("model", "image", "layer", "affinity", "head", "row", "column"),
                np.stack(collected)[None],
                {"long_name": "attention of the asking token", "units": "1"},
            ),
            "photo": (
                ("model", "image", "y", "x", "rgb"),
                np.stack(photos)[None],
                {"long_name": "what the model sees"},
            ),
        },
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": list(layers),
            "affinity": list(chosen.affinity),
            "head": list(heads),
            "row": list(range(rows)),
            "column": list(range(columns)),
            "query": ("model", [query]),
            "query_row": ("model", [chosen.query[0] if chosen.query else -1]),
            "query_column": ("model", [chosen.query[1] if chosen.query else -1]),
        },
    )
    return describe_model(dataset, model, chosen.image_size, pictures)


def _thumbnail(image: "Tensor", preprocessing: "dict[str, Any]") -> "np.ndarray":
    """A normalised image (3, H, W) as the pixels it was made of, small, (224, 224, 3) uint8."""
    import torch
    import torch.nn.functional as F

    mean, std = (torch.tensor(preprocessing[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = F.interpolate(
        ((image * std + mean) * 255)[None], size=(THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True
    )
    return pixels[0].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def figure(dataset: "xr.Dataset") -> "Figure":
    """A row a picture: what the model sees, then a map for each model, layer and product, the mean over heads.

    Each map is scaled to its own 99.5th percentile, so that one bright patch does not hide the rest.
    """
    from analysis.plots import lines as plot

    if "attention" not in dataset:
        raise UserError("this Dataset has no attention maps: write it with python -m analysis.attention.")
    columns = [
        (model, layer, name)
        for model in dataset.model.values.tolist()
        for layer in dataset.layer.values.tolist()
        for name in dataset.affinity.values.tolist()
        if dataset.attention.sel(model=model, layer=layer, affinity=name).notnull().any()
    ]
    with plot.style():
        shown, axes = plot.panels(len(columns) + 1, width=1.35, height=1.4, rows=dataset.sizes["image"])
        for line, image in zip(axes, dataset.image.values.tolist(), strict=True):
            line[0].imshow(dataset.photo.sel(image=image).isel(model=0).astype("uint8"))
            for panel, (model, layer, name) in zip(line[1:], columns, strict=True):
                one = dataset.attention.sel(model=model, image=image, layer=layer, affinity=name).mean("head")
                one = one.dropna("row", how="all").dropna("column", how="all")
                panel.imshow(one, cmap="magma", vmin=0, vmax=float(one.quantile(0.995)))
                origin = dataset.sel(model=model)
                if int(origin.query_row) >= 0:
                    panel.plot([origin.query_column], [origin.query_row], "o", mfc="none", mec="#56B4E9", mew=1.4, ms=6)
            for panel in line:
                panel.set(xticks=[], yticks=[])
                panel.grid(False)
                panel.spines[:].set_visible(False)
            line[0].set_ylabel(_shortened(image), fontsize=7)
        for panel, (model, layer, name) in zip(axes[0, 1:], columns, strict=True):
            random = bool(dataset.random_weights.sel(model=model))
            panel.set_title(
                f"{model}\n{name[0]}-{name[1]}, layer {layer}" + ("\nrandom weights" if random else ""),
                color=plot.WARNING_COLOR if random else "black",
                fontsize=7.5,
            )
        counts = dataset.attention.notnull().any(("image", "layer", "affinity", "row", "column")).sum("head").values
        heads = " and ".join(map(str, sorted(set(counts.tolist()))))
        asking = ", ".join(sorted(set(dataset["query"].values.tolist())))
        shown.supxlabel(
            f"attention of: {asking} · mean over {heads} heads · black is 0, white each map's own 99.5th percentile",
            fontsize=6.5,
            color="#555555",
        )
    return shown


def _shortened(name: str, length: int = 18) -> str:
    return name if len(name) <= length else "…" + name[-length + 1 :]


def main() -> None:
    """The command `python -m analysis.attention`."""
    chosen = options(AttentionOptions, __doc__ or "")
    import numpy as np

    output, drawing = paths(chosen, "attention")
    dataset = load_one_by_one(chosen, output, lambda model, source: asked(model, source, chosen))
    if "attention" not in dataset:
        raise UserError(f"{chosen.data} has no attention maps: write it with python -m analysis.attention.")
    # how far the attention is spread: exp(entropy) is the number of patches it covers if it were even
    share = dataset.attention / dataset.attention.sum(("row", "column"))
    covered = share.where(share > 0).pipe(lambda p: -p * np.log(p)).sum(("row", "column")).pipe(np.exp)
    covered = covered.where(dataset.attention.notnull().any(("row", "column")))  # a head or layer a model lacks is no 1
    table = covered.mean(("image", "head")).stack(column=("model", "affinity")).to_pandas()
    print(
        f"patches that the attention covers (exp of its entropy), mean over images and heads, {dataset.sizes['image']} images"
    )
    print(table.to_string(float_format=lambda value: f"{value:.4g}", na_rep=""))
    rows = (
        covered.rename("patches_covered")
        .reset_coords(drop=True)
        .to_dataframe()
        .reset_index()
        .dropna(subset="patches_covered")
    )
    announce(dataset, with_origin(rows, dataset), figure(dataset), output, drawing, new=chosen.data is None)


if __name__ == "__main__":
    run(main)
