"""What sweeps say: which recipe is best and what each knob does, of the mean mIoU over the data sets."""

from __future__ import annotations

import xarray as xr

from analysis.readings.words import course
from analysis.sweeps.labels import mean_label
from analysis.sweeps.read import by_alpha, by_beta, by_layer, by_variant, find, for_mean
from clearclip.evaluation import published
from clearclip.evaluation.reading import best_recipe
from clearclip.methods.recipes import RECIPES
from clearclip.methods.titles import method_label


def ablation(dataset: xr.Dataset) -> list[str]:
    """What taking away residual and FFN does to the best attention (paper Table 1)."""
    variants = by_variant(dataset)
    sentences = []
    for model, miou in means(dataset).items():
        names = {name: (attention, variant) for attention, row in variants.items() for variant, name in row.items()}
        best = max(names, key=lambda name: miou[name])
        attention, variant = names[best]
        sentence = f"Best for {model} {where(dataset)}: {attention} attention, {variant}, {miou[best]:.1f} mIoU"
        row = variants[attention]
        if "full" in row:
            changes = [
                f"{variant} {miou[name] - miou[row['full']]:+.1f}" for variant, name in row.items() if variant != "full"
            ]
            sentence += f"; against the full block of {miou[row['full']]:.1f}: {', '.join(changes)}"
        sentences.append(f"{sentence}.")
    return sentences


def alpha(dataset: xr.Dataset) -> list[str]:
    """How mIoU runs with α, for the attention that reaches most (paper Fig. 6)."""
    weights = by_alpha(dataset)
    sentences = []
    for model, miou in means(dataset).items():
        attention = max(weights, key=lambda attention: max(miou[name] for name in weights[attention].values()))
        values = [miou[name] for name in weights[attention].values()]
        how = course(values, list(weights[attention]))
        sentences.append(f"With α the mIoU of {model} and {attention} attention {how} {where(dataset)}.")
    return sentences


def beta(dataset: xr.Dataset) -> list[str]:
    """How mIoU runs with the share of X_res's channels that are set to 0 (paper Table 4)."""
    shares = {key: name for key, name in by_beta(dataset).items() if key != "norm."}
    sentences = []
    for model, miou in means(dataset).items():
        if shares:
            how = course([miou[name] for name in shares.values()], [float(key) for key in shares])
            sentences.append(f"With β in % the mIoU of {model} {how} {where(dataset)}.")
    return sentences


def compare(dataset: xr.Dataset) -> list[str]:
    """Which method is best, and what ClearCLIP gains over the untouched CLIP (paper Table 2)."""
    ours, clip = find(dataset, RECIPES["clearclip"]), find(dataset, RECIPES["clip"])
    sentences = []
    for model, miou in means(dataset).items():
        best = best_recipe(miou)
        sentence = f"Best for {model} {where(dataset)}: {method_label(best)}, {miou[best]:.1f} mIoU"
        if ours and clip:
            change = miou[ours] - miou[clip]
            verb = "gains" if change > 0 else "loses"
            sentence += f"; ClearCLIP {verb} {abs(change):.1f} against CLIP"
        sentences.append(f"{sentence}.")
    names = dataset.dataset.values.tolist()
    for model in dataset.model.values.tolist():  # of some published rows other weights were used than a name loads
        rows = [row for name in names for row in published.printed(model, name).values()]
        for origin in dict.fromkeys(row.origin for row in rows if row.origin.startswith("run with the weights")):
            sentences.append(f"The published numbers of {model} were {origin}, and other weights need not reach them.")
    return sentences


def layers(dataset: xr.Dataset) -> list[str]:
    """In which layer and feature map patches are best read, beside the last one."""
    miou = by_layer(dataset).sel(dataset=for_mean(dataset)).mean("dataset")
    sentences = []
    for model in dataset.model.values.tolist():
        curves = miou.sel(model=model).dropna("layer", how="all").fillna(0)
        best = curves.isel(curves.argmax(("layer", "feature")))
        last = curves.isel(layer=-1)
        end = ", ".join(
            f"{feature} {value:.1f}" for feature, value in zip(last.feature.values, last.values, strict=True)
        )
        sentences.append(
            f"Text is best found in {best.feature.item()} of layer {best.layer.item()} of {model}: {best.item():.1f} mIoU "
            f"{where(dataset)}; in layer {last.layer.item()}: {end}."
        )
    return sentences


def norms_and_miou(dataset: xr.Dataset) -> list[str]:
    """Whether attentions of a stronger X_attn beside X_res give a higher mIoU (paper Fig. 2)."""
    chosen = dataset.sel(dataset=for_mean(dataset)).mean("dataset")
    sentences = []
    for model in dataset.model.values.tolist():
        cell = chosen.sel(model=model)
        ratios = (cell.x_attn_norm / cell.x_res_norm).to_series()
        miou = cell.miou.to_series()
        related = ratios.rank().corr(miou.rank())
        trend = "rises" if related > 0.5 else "falls" if related < -0.5 else "does not go"
        best = miou.idxmax()
        sentences.append(
            f"The mIoU of {model} {trend} with the weight of X_attn beside X_res (rank correlation {related:.1f}); it is "
            f"highest with {best}, {miou[best]:.1f}, where X_attn has {ratios[best]:.2f} of the norm of X_res."
        )
    return sentences


def means(dataset: xr.Dataset) -> dict[str, dict[str, float]]:
    """Model → recipe → mIoU in %, the mean over the data sets that `for_mean` names."""
    miou = dataset.miou.sel(dataset=for_mean(dataset)).mean("dataset").transpose("model", "recipe")
    recipes = dataset.recipe.values.tolist()
    rows = zip(dataset.model.values.tolist(), miou.values.tolist(), strict=True)
    return {model: dict(zip(recipes, row, strict=True)) for model, row in rows}


def where(dataset: xr.Dataset) -> str:
    """On what the mean was taken."""
    names = for_mean(dataset)
    label = mean_label(names)
    return f"on {label}" if len(names) == 1 else f"in the {label}"
