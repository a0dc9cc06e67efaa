"""Datasets to figures: `plots.alpha(dataset)` is a matplotlib Figure, to be shown or saved.

A function is called like the command that measures what it draws; a module is called after what is drawn.
"""

from analysis.plots.alpha_lines import alpha
from analysis.plots.attention_maps import attention
from analysis.plots.attribution_maps import attribution
from analysis.plots.attribution_sources import sources
from analysis.plots.beta_lines import beta
from analysis.plots.channel_curves import channels
from analysis.plots.component_worth import components
from analysis.plots.feature_surfaces import feature_maps
from analysis.plots.heat_maps import prototype_heads, textspan_share
from analysis.plots.label_pictures import label_maps
from analysis.plots.lines import entropy, layer_lines, maxima, norms
from analysis.plots.method_bars import compare
from analysis.plots.miou_lines import layers, prototypes
from analysis.plots.norm_bars import norms_and_miou
from analysis.plots.pca_maps import pca
from analysis.plots.peak_panels import peaks
from analysis.plots.similarity_maps import similarity
from analysis.plots.text_tables import textspan
from analysis.plots.token_lines import tokens
from analysis.plots.variant_bars import ablation, ablation_by_dataset

__all__ = [
    "ablation",
    "ablation_by_dataset",
    "alpha",
    "attention",
    "attribution",
    "beta",
    "channels",
    "compare",
    "components",
    "entropy",
    "feature_maps",
    "label_maps",
    "layer_lines",
    "layers",
    "maxima",
    "norms",
    "norms_and_miou",
    "pca",
    "peaks",
    "prototype_heads",
    "prototypes",
    "similarity",
    "sources",
    "textspan",
    "textspan_share",
    "tokens",
]
