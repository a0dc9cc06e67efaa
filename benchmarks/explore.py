"""How long a visitor of the explorer waits: what each click, slider and recipe costs the server, at 224 pixels.

    python -m benchmarks.explore --threads 2 --repeats 9
    python -m benchmarks.explore --model dinov2_vits14 --beside none --repeats 9

Measured is the whole answer, from the controls to the page's HTML, without the network and the browser. Every repeat is at another
point, so nothing is answered from memory but what the page keeps, too. CPU time is that of all threads together: it does not grow
when other programs keep the machine busy, and half of it is what two idle cores need at best. With a model that is not shipped the
weights are random unless there is a --checkpoint, which changes no time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

import clearclip
from analysis.explorer import answers, pictures
from analysis.explorer.answers import NONE, Controls, Visit
from analysis.explorer.segments import OFFERED
from analysis.explorer.shelf import Shelf
from benchmarks.common import Row, row, show
from clearclip.methods.recipes import RECIPES
from clearclip.models.names import SHIPPED

NAME = "explore"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_tiny")
    parser.add_argument("--checkpoint", default=None)
    parser.add_argument("--beside", default=NONE, help="a second model")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    return parser


def main() -> None:
    args = options().parse_args()
    weights = "shipped weights" if args.model in SHIPPED else "its checkpoint" if args.checkpoint else "random weights"
    show(
        rows(args),
        f"{args.model}, {weights}, beside it {args.beside}, {args.image_size} pixels, {args.threads} threads",
    )


def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    own = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        return [each for name, times in timed(args) for each in _rows(name, *zip(*times, strict=True))]
    finally:
        torch.set_num_threads(own)


def _rows(name: str, wall: tuple[float, ...], busy: tuple[float, ...]) -> list[Row]:
    return [row(NAME, name, "", "ms", wall), row(NAME, f"{name}, CPU time of all threads", "", "ms", busy)]


def timed(options: argparse.Namespace) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Each answer, and the milliseconds and CPU milliseconds of its repeats; the first one warms up and does not count."""

    def load(name: str) -> clearclip.Backbone:
        file = options.checkpoint if name == options.model else None
        return clearclip.load(name, file, random=file is None and name not in SHIPPED, device="cpu")

    shelf = Shelf({}, Path(tempfile.mkdtemp()), options.image_size, load)
    example = pictures.examples()["drawn cat"]
    visit, photo = Visit(example.load(), "drawn cat"), example.load()
    model = shelf.model(options.model)
    controls = Controls(options.model, options.beside, layer=model.depth, classes=example.classes)
    points = [visit.point_at((i % 13 + 0.5) / 13, (i * 5 % 13 + 0.5) / 13) for i in range(options.repeats + 1)]

    def look(i: int, **changed: object) -> str:
        return answers.look(shelf, points[i], replace(controls, **changed))

    def segment(i: int, **changed: object) -> str:
        return answers.segment(shelf, points[i], replace(controls, **changed))

    def explain(i: int, **changed: object) -> str:
        return answers.explain(shelf, points[i], replace(controls, **changed))

    def fresh(i: int) -> str:
        new = photo.copy()
        new.putpixel((0, 0), (i, i, i))
        return answers.look(shelf, replace(visit, picture=new), controls)

    asked: dict[str, Callable[[int], str]] = {
        "a new picture (the trunk runs)": fresh,
        "a click": look,
        "a layer": lambda i: look(i, layer=1 + i % model.depth),
        "a head": lambda i: look(i, head=1 + i % model.heads),
    }
    if model.has_text:
        needs_second = {name for name in OFFERED if RECIPES[name].needs_guide}
        offered = [name for name in OFFERED if options.beside != NONE or name not in needs_second]
        asked |= {f"recipe {name}": lambda i, name=name: segment(i, ticked=(name,)) for name in offered}
        asked |= {
            "α": lambda i: segment(i, ticked=(), own=True, alpha=0.1 * i),
            "β": lambda i: segment(i, ticked=(), own=True, beta=0.05 * (i % 20)),
            "background threshold": lambda i: segment(i, background=True, threshold=0.05 * (i % 20)),
            "explain: a click": explain,
            "explain: a head switched off": lambda i: explain(
                i, off=(f"layer {model.depth} head {1 + i % model.heads}",)
            ),
        }
    for name, answer in asked.items():
        times = []
        for i in range(options.repeats + 1):
            start, cpu = time.perf_counter(), time.process_time()
            html = answer(i)
            times.append((1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)))
            assert 'role="alert"' not in html, html
        yield name, times[1:]


if __name__ == "__main__":
    main()
