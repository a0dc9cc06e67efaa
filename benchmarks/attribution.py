"""What attribution costs: all heads and FFNs of one picture toward some texts, against a plain forward pass of the same model.

    python -m benchmarks.attribution --model clip_vitb16 --texts 20 --repeats 9

The weights of a model that is not shipped are random, which changes no time.
"""

import argparse
from functools import partial

import torch

import clearclip
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from benchmarks.common import Row, row, show, turns
from clearclip.methods.recipes import recipe
from clearclip.models.names import SHIPPED

NAME = "attribution"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clip_vitb16")
    parser.add_argument("--recipe", nargs="+", default=["clip", "clearclip"])
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    return parser


def main() -> None:
    args = options().parse_args()
    weights = "shipped weights" if args.model in SHIPPED else "random weights"
    show(rows(args), f"{args.model}, {weights}, {args.batch_size} pictures at once, {args.texts} texts")


@torch.inference_mode()
def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    model = clearclip.load(args.model, random=args.model not in SHIPPED)
    images = torch.randn(args.batch_size, 3, model.image_size, model.image_size, device=model.device)
    width = model.project(torch.zeros(1, 1, model.width, device=model.device)).shape[-1]
    readout = Readout(model, torch.randn(args.texts, width))
    each = {f"attribution, recipe {name}": partial(decompose, readout, images, recipe(name)) for name in args.recipe}
    taken = turns({"plain": partial(model, images), **each}, args.repeats)
    milliseconds = [1000 * seconds for seconds in taken.wall["plain"]]
    return [
        row(NAME, "plain forward pass", "", "ms", milliseconds),
        *(row(NAME, what, "plain forward pass", "×", taken.ratios(what, "plain")) for what in each),
    ]


if __name__ == "__main__":
    main()
