"""What there is to draw, in the paper's order: every figure and table with its caption, the runs it reads, and its drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from analysis import plots
from analysis.plots.style import DOUBLE
from clearclip.errors import UserError, closest
from figures import features, layouts, readings
from figures.radar import methods_on_benchmarks

METHODS = ("clip", "maskclip", "sclip", "clearclip")  # of the figures that show label maps


@dataclass(frozen=True)
class Entry:
    """One figure or table: `draw` takes the Datasets of the runs that it `needs`, in their order."""

    name: str
    needs: tuple[str, ...]
    draw: Callable[..., Any]
    caption: str  # its first words are the number in the paper; a blank line parts paragraphs

    @property
    def is_table(self) -> bool:
        """Whether it is a table; the others are figures."""
        return self.name.startswith("table")


_label_maps = partial(plots.label_maps, recipes=METHODS, width=DOUBLE)

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "fig1",
            ("maps_fig7",),
            features.richest_picture,
            "Fig. 1, left. What the text finds in X_sum, X_res and X_attn of the last block, and in ClearCLIP, on one "
            "picture.\n\n"
            "In the paper's CLIP the noise of X_sum is that of X_res, while X_attn is clean; ClearCLIP is X_attn with "
            "q-q attention.",
        ),
        Entry(
            "fig1_radar",
            ("compare",),
            methods_on_benchmarks,
            "Fig. 1, right. CLIP, MaskCLIP, TCL and ClearCLIP on all benchmarks (mIoU).\n\n"
            "Every spoke runs from 0 in the centre to the largest value on that benchmark, which stands at its end. "
            "Dashed lines with open markers are the published values (Tables 2 and 3; MaskCLIP and TCL as reported by "
            "TCL), solid lines are measured; TCL was trained and is not measured here. Where only one or two datasets "
            "of another kind were measured, bars take the place of the radar.",
        ),
        Entry(
            "fig2",
            ("norms_miou",),
            features.norms_and_miou,
            "Fig. 2. Frobenius norms of X_res and X_attn in the last block (bars) and mIoU (line) for each kind of "
            "attention.\n\n"
            "In the paper mIoU follows the norm of X_attn, and X_res is much stronger in ViT-L/14 than in ViT-B/16. "
            "Open markers are its values.",
        ),
        Entry(
            "fig3",
            ("layers", "maps_fig7"),
            features.mean_and_maps,
            "Fig. 3. mIoU of the label maps from X_sum, X_res and X_attn of the last block (q-k attention), beside "
            "some of these maps.\n\n"
            "Open markers are the paper's values for CLIP-B/16 on COCO-Stuff.",
        ),
        Entry(
            "fig4a",
            ("statistics",),
            readings.entropy,
            "Fig. 4a. Normalised entropy of X_res, X_attn and X_sum in every layer, CLIP against DINO.\n\n"
            "In the paper's CLIP-B/16 the entropy of X_res and X_sum falls to about 0 in the last layers while X_attn "
            "stays near 1; in its DINO-B/16 all three stay nearly constant. Open markers are those readings.",
        ),
        Entry(
            "fig4b",
            ("statistics",),
            readings.maxima,
            "Fig. 4b. The largest entry of X_res, X_attn and X_sum in every layer, CLIP against DINO.\n\n"
            "In the paper's CLIP-B/16 the maximum of X_res in the last layer is about 90 times that of early layers; "
            "in its DINO-B/16 it stays mostly below 10. The same numbers of the models shown stand in their panels.",
        ),
        Entry(
            "fig4c",
            ("statistics",),
            plots.channels,
            "Fig. 4c. Channel means of X_res, X_attn and X_sum, normalised to 0 … 1 in each image and sorted, for "
            "every layer.\n\n"
            "In the paper's CLIP-B/16 a few channels carry X_res in the last layers; in its DINO-B/16 the channels "
            "stay alike. The paper does not say how it normalises; here it is min–max per image.",
        ),
        Entry(
            "fig5",
            ("ablation",),
            plots.ablation,
            "Fig. 5. Mean mIoU for each kind of attention in the last block: as it is, without FFN, without residual "
            "connection (RC), and without both.\n\n"
            "Means are over the benchmarks without a background class that were measured, or else over all datasets, "
            "which the small print names. Open markers are the paper's values, over the same datasets.",
        ),
        Entry(
            "fig6",
            ("alpha",),
            plots.alpha,
            "Fig. 6. mIoU when the last block hands on X_res + α·X_attn, for each kind of attention, without FFN.\n\n"
            "In the paper a larger α is always better. Means are over the benchmarks without a background class that "
            "were measured, or else over all datasets. The open marker is the paper's value at α = 1 (its Table 1).",
        ),
        Entry(
            "fig7",
            ("maps_fig7",),
            _label_maps,
            "Fig. 7. Label maps of CLIP, MaskCLIP, SCLIP and ClearCLIP beside photo and ground truth; in the paper, "
            "of COCO-Stuff.\n\n"
            "Which model and which pictures are shown stands above the maps.",
        ),
        Entry(
            "fig8",
            ("ablation",),
            plots.ablation_by_dataset,
            "Fig. 8. The ablation of Fig. 5 on each dataset by itself.\n\n"
            "Every column of markers is one kind of attention in the last block: as it is, without FFN, without "
            "residual connection (RC), and without both. Open markers, a little to the right, are the paper's values; "
            "MaskCLIP's (I, as it is) on ViT-B/16 is left out: it is quoted from TCL, which has another protocol.",
        ),
        Entry(
            "fig9",
            ("featuremaps",),
            features.feature_maps,
            "Fig. 9. The feature maps themselves, token × channel, of the last layer; the strongest channels are "
            "marked.\n\n"
            "In the paper's CLIP the peaks of X_res stand in the same few channels in every picture, and X_sum has "
            "them from X_res.",
        ),
        Entry(
            "fig10",
            ("maps_fig10",),
            _label_maps,
            "Fig. 10. Label maps of CLIP, MaskCLIP, SCLIP and ClearCLIP beside photo and ground truth; in the paper, "
            "of ADE20K.\n\n"
            "Which model and which pictures are shown stands above the maps.",
        ),
        Entry(
            "fig11",
            ("maps_fig11",),
            _label_maps,
            "Fig. 11. Label maps of CLIP, MaskCLIP, SCLIP and ClearCLIP beside photo and ground truth; in the paper, "
            "of Context59.\n\n"
            "Which model and which pictures are shown stands above the maps.",
        ),
        Entry(
            "table1",
            ("ablation",),
            layouts.table_1,
            "Table 1. Ablation of the last block: residual connection (RC) and FFN on or off, with q-q attention.\n\n"
            "The paper's rows are of CLIP-B/16. Means are over the five benchmarks without a background class.",
        ),
        Entry(
            "table2",
            ("compare",),
            layouts.table_2,
            "Table 2. Methods on the five benchmarks without a background class.\n\n"
            "SCLIP as its authors report it uses several names a class; SCLIP* is the paper's own run without them, "
            "and what a measured SCLIP is compared with. MaskCLIP on ViT-B/16 is quoted from TCL, which has another "
            "protocol. Means are computed from the rows.",
        ),
        Entry(
            "table3",
            ("compare",),
            layouts.table_3,
            "Table 3. Methods on the three benchmarks with a background class.\n\n"
            "SCLIP as its authors report it uses several names a class; SCLIP* is the paper's own run without them, "
            "and what a measured SCLIP is compared with. MaskCLIP on ViT-B/16 is quoted from TCL, which has another "
            "protocol. Means are computed from the rows.",
        ),
        Entry(
            "table4",
            ("beta",),
            layouts.table_4,
            "Table 4. The strongest β % of the channels of X_res removed, or every token of X_res brought to length 1 "
            "(norm.).\n\n"
            "Attention is q-q, the FFN is off. Values are means over datasets: the paper's over all eight benchmarks, "
            "for CLIP-B/16.",
        ),
        Entry(
            "table5",
            ("compare",),
            layouts.table_5,
            "Table 5. ClearCLIP added to other methods (MaskCLIP, SCLIP, GEM) and to other models.\n\n"
            "Means are computed from the rows: the paper prints 29.5 and 37.9 for MaskCLIP and SCLIP with ClearCLIP "
            "on ViT-B, where its rows give 29.3 and 37.0. MaskCLIP on ViT-B/16 is quoted from TCL, which has another "
            "protocol.",
        ),
        Entry(
            "layers",
            ("layers",),
            plots.layers,
            "Beyond the paper. mIoU of X_res, X_attn and X_sum of every layer, each read with the text as if it were "
            "the last.\n\n"
            'A "logit lens" for patches: it shows from which layer on which feature map speaks the language of the '
            "text. The last layer is the paper's Fig. 3.",
        ),
        Entry(
            "prototypes",
            ("prototypes",),
            plots.prototypes,
            "Beyond the paper. Which feature map of which layer carries local information, in any model, without "
            "text.\n\n"
            "Each class is the mean of its patch features over one half of the pictures; the patches of the other "
            "half take the nearest class. mIoU of X_res, X_attn and X_sum for every layer.",
        ),
        Entry(
            "tokens",
            ("tokens",),
            plots.tokens,
            "Beyond the paper. Tokens that stand out: outlier norms, dominant channels, effective rank and mean "
            "cosine of every layer.\n\n"
            "Below, where in the picture the tokens of X_sum are long, averaged over the pictures.",
        ),
    )
}


def entries(names: Sequence[str] = ()) -> list[Entry]:
    """The figures and tables of these names, all for none; fig4 stands for fig4a, fig4b and fig4c.

    Raises `UserError` with the closest names.

    >>> [entry.name for entry in entries(["fig4", "table1"])]
    ['fig4a', 'fig4b', 'fig4c', 'table1']
    """
    selected: dict[str, Entry] = {}
    for name in names or ENTRIES:
        parts = [name] if name in ENTRIES else [other for other in ENTRIES if other[:-1] == name]
        if not parts:
            raise UserError(
                f"there is no figure or table {name!r}. Closest: {closest(name, list(ENTRIES))}. All: {', '.join(ENTRIES)}."
            )
        selected.update({part: ENTRIES[part] for part in parts})
    return list(selected.values())
