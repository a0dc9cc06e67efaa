"""Copies the drawings of `python -m figures` into the gallery and writes its page: python docs/gallery.py figures/output."""

import sys
from pathlib import Path

from PIL import Image

from figures.catalogue import ENTRIES

HERE = Path(__file__).parent
PICTURES = HERE / "images" / "gallery"
WIDEST = 1400  # pixels; the page is narrower, and the repository stays small


def main(source: Path) -> None:
    """Take every figure that is there, in the catalogue's order, with its caption and the command that draws it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Gallery",
        "All of it is drawn by `python -m figures` with the two small models that come with the package, on drawn scenes and 12 "
        "photographs; nothing here is about a real CLIP or DINO unless it says so. `clip_tiny` was "
        "[chosen because it shows the paper's effect](residual.md); its card, `clearclip/zoo/weights/clip_tiny.md`, "
        "says where it still differs from the paper. With real weights: "
        "`python -m figures --model clip_vitb16 --against dino_vitb16 --dataset voc20:data/voc …`.",
    ]
    for entry in ENTRIES.values():
        figure = source / f"{entry.name}.png"
        table = source / f"{entry.name}.md"
        content = ""
        if not entry.is_table and figure.is_file():
            with Image.open(figure) as picture:
                small = picture.convert("RGB")
            small.thumbnail((WIDEST, WIDEST))
            small.quantize(256).save(PICTURES / figure.name, optimize=True)
            content = f"![{entry.name}](images/gallery/{figure.name})"
        elif entry.is_table and table.is_file():
            content = table.read_text("utf-8").strip()
        if content:
            caption = [] if entry.is_table else [entry.caption]  # tables carry theirs
            parts += [f"## {entry.name}", content, *caption, f"`python -m figures {entry.name}`"]
    (HERE / "gallery.md").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
