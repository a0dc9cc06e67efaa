"""Copies the drawings of `clearclip figures` into the gallery and writes its page.

python docs/gallery.py figures/output            # after clearclip figures
python docs/gallery.py figures/output results    # and what other commands drew for the page of analysis.plots
"""

import re
import sys
from pathlib import Path

from PIL import Image

from figures.catalogue import ENTRIES

HERE = Path(__file__).parent
PICTURES = HERE / "images" / "gallery"
BESIDE = (
    "attention",
    "beta",
    "compare",
    "norms",
    "peaks",
)  # commands whose figure is none of the paper's, with --limit 16
WIDEST = 1400  # pixels; the page is narrower, and the repository stays small

PAIR = "--model clip_vitb16 --against dino_vitb16 --images coco_stuff:data/coco"
SETS = "--model clip_vitb16 --dataset voc20:data/voc context59:data/context ade20k:data/ade20k …"
FIGURES = {  # a short title, and what `clearclip figures <name>` needs for real weights
    "fig1": ("What the text finds in each map", "--model clip_vitb16 --dataset coco_stuff:data/coco"),
    "fig1_radar": ("Methods on all benchmarks", SETS),
    "fig2": ("Norms and mIoU", "--model clip_vitb16 clip_vitl14 --dataset coco_stuff:data/coco"),
    "fig3": ("mIoU of each map", "--model clip_vitb16 --dataset coco_stuff:data/coco"),
    "fig4a": ("Entropy in every layer", PAIR),
    "fig4b": ("Largest entry in every layer", PAIR),
    "fig4c": ("Channel means in every layer", PAIR),
    "fig5": ("Ablation of the last block", SETS),
    "fig6": ("Weight of the attention output", SETS),
    "fig7": ("Label maps, COCO-Stuff", "--model clip_vitb16 --dataset coco_stuff:data/coco"),
    "fig8": ("Ablation on each data set", SETS),
    "fig9": ("Token × channel surfaces", PAIR),
    "fig10": ("Label maps, ADE20K", "--model clip_vitb16 --dataset ade20k:data/ade20k"),
    "fig11": ("Label maps, Context59", "--model clip_vitb16 --dataset context59:data/context"),
    "table1": ("Ablation of the last block", SETS),
    "table2": ("Methods without a background class", SETS),
    "table3": ("Methods with a background class", "--model clip_vitb16 --dataset voc21:data/voc …"),
    "table4": ("Pruned channels of the residual", SETS),
    "table5": ("ClearCLIP added to other methods and models", SETS),
    "layers": ("Every layer, read with the text", SETS),
    "prototypes": ("Every layer, without text", "--model clip_vitb16 --against dino_vitb16 --dataset voc20:data/voc"),
    "tokens": ("Tokens that stand out", PAIR),
}


def heading(name: str) -> str:
    """The number in the paper, if there is one, and the title.

    >>> heading("fig4a"), heading("tokens")
    ('Fig. 4a: Entropy in every layer', 'Tokens that stand out')
    """
    number = re.match(r"(Fig|Table)\D*\d+\w?", ENTRIES[name].caption)
    title = FIGURES[name][0]
    return f"{number[0]}: {title}" if number else title


def main(source: Path) -> None:
    """Take every figure and table that is there, in the catalogue's order, with its caption and its commands."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    overview, parts = [], []
    for entry in ENTRIES.values():
        figure = source / f"{entry.name}.png"
        table = source / f"{entry.name}.md"
        content, title = "", heading(entry.name)
        if not entry.is_table and figure.is_file():
            copy(figure)
            content = f"![{title}](images/gallery/{figure.name})"
            overview.append(f"[{content}<br>{title}](#{entry.name})")
        elif entry.is_table and table.is_file():
            content = table.read_text("utf-8").strip()
        if content:
            caption = [] if entry.is_table else [entry.caption]  # tables carry theirs
            command = f"clearclip figures {entry.name}"
            commands = f"```bash\n{command}    # as it is here\n{command} {FIGURES[entry.name][1]}\n```"
            parts += [f"## {title} {{ #{entry.name} }}", content, *caption, commands]
    start = [
        "# Gallery",
        "All of it is drawn by `clearclip figures` with the two small models that come with the package, on drawn scenes and 12 "
        "photographs. Nothing here is about a real CLIP or DINO unless it says so. `clip_tiny` was [chosen because it shows the "
        "paper's effect](residual.md); its card, `clearclip/zoo/weights/clip_tiny.md`, says where it still differs. "
        "Under each figure stand the command that "
        "drew it and the one for real weights, which needs a network once, and the data sets.",
        '<div class="overview" markdown>\n\n' + "\n\n".join(overview) + "\n\n</div>",
    ]
    (HERE / "gallery.md").write_text("\n\n".join(start + parts) + "\n", "utf-8")


def copy(figure: Path) -> None:
    """Put a figure into the gallery, small enough for a page."""
    with Image.open(figure) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDEST, WIDEST))
    small.quantize(256).save(PICTURES / figure.name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    for results in map(Path, sys.argv[2:]):
        for name in BESIDE:
            copy(results / f"{name}.png")
