"""Is one compiled graph faster? All blocks of a model with the statistics of Fig. 4 of every map in one trace without a break.

    python -m benchmarks.compiled --model dino_vitb16 --batch-size 1 --repeats 9

Three ways to the same numbers take turns: the model as its library runs it, with our hooks; compiled, where every hook breaks
the graph; and one `fullgraph` trace of all blocks, made of the library's own modules through our views, with the reductions as
ordinary operations in it. They are compared with a plain pass, eager and compiled. Results are compared before timing, and
compiling is not counted. Weights are random unless the model is shipped, which changes no time.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import clearclip
from analysis.probes.collector import Collector, summaries
from analysis.probes.images import Picture
from analysis.probes.statistics import FIGURE_4, STATISTICS
from benchmarks.common import Row, row, show, turns
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.models.names import SHIPPED

NAME = "compiled"
TOLERANCE = 1e-4  # relative: a compiled graph fuses and reorders sums


class Trace(nn.Module):
    """All blocks of a model, from the first one's input (B, L, D) to the summaries of every map."""

    def __init__(self, model: Backbone, reduce: Callable[[Tensor], dict[Callable[..., Tensor], Tensor]]) -> None:
        super().__init__()
        self.blocks, self.reduce = model.blocks, reduce
        self.modules_of_blocks = nn.ModuleList(block.module for block in model.blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The summaries of X_res, X_attn and X_sum, layer by layer."""
        found: list[Tensor] = []
        for block in self.blocks:
            y = block.norm1(x)
            x_attn = block.output(scaled_dot_product_attention(*block.qkv(y)), y)
            x_sum = x + x_attn
            for each in (x, x_attn, x_sum):
                found += self.reduce(each).values()
            x = x_sum + block.ffn(x_sum)
        return found


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino_vitb16")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--backend", default="inductor", help="of torch.compile; eager only traces")
    return parser


def main() -> None:
    args = options().parse_args()
    weights = "shipped weights" if args.model in SHIPPED else "random weights"
    show(rows(args), f"{args.model}, {weights}, {args.batch_size} pictures at once, backend {args.backend}")


@torch.inference_mode()
def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    plain, hooked, compiled, broken = (clearclip.load(args.model, random=args.model not in SHIPPED) for _ in range(4))
    images = torch.randn(args.batch_size, 3, plain.image_size, plain.image_size, device=plain.device)
    with ExitStack() as stack:
        collectors = [collector(model, images) for model in (hooked, broken)]
        for each in collectors:  # attached once, since attaching forgets what was compiled before
            stack.enter_context(each.running())
        for model in (compiled, broken):
            model.vit.compile(backend=args.backend)
        needed = [summary.summarise for summary in collectors[0].summaries.values()]
        trace = Trace(plain, partial(summaries, needed=needed, starts=collectors[0].starts))
        whole = torch.compile(trace, fullgraph=True, backend=args.backend)

        def one_graph() -> list[Tensor]:
            return whole(plain.block_inputs(images, [1])[1].x)

        require_alike(trace(plain.block_inputs(images, [1])[1].x), one_graph())
        variants: dict[str, Callable[[], object]] = {
            "plain pass": partial(plain, images),
            "statistics with hooks": partial(collectors[0].measure, images),
            "plain pass, compiled": partial(compiled, images),
            "statistics with hooks, compiled, a break at each": partial(collectors[1].measure, images),
            "statistics in one compiled graph": one_graph,
        }
        taken = turns(variants, args.repeats)
    names, milliseconds = list(variants), [1000 * seconds for seconds in taken.wall["plain pass"]]
    return [
        row(NAME, "plain pass", "", "ms", milliseconds),
        *(row(NAME, name, names[0], "×", taken.ratios(name, names[0])) for name in names[1:]),
        *(row(NAME, name, names[2], "×", taken.ratios(name, names[2])) for name in names[3:]),
    ]


def collector(model: Backbone, images: Tensor) -> Collector:
    """What `analysis.collect` runs for a batch."""
    pictures = [Picture(f"{i}.png", lambda: None, "noise") for i in range(len(images))]  # type: ignore[arg-type, return-value]
    named = {name: STATISTICS[name] for name in FIGURE_4}
    return Collector(model, pictures, named, model.layers(), FEATURES, images.shape[-1], len(images))


def require_alike(ours: list[Tensor], compiled: list[Tensor]) -> None:
    """Stop where a compiled graph gives other numbers."""
    for a, b in zip(ours, compiled, strict=True):
        if (a - b).abs().max() > TOLERANCE * a.abs().max():
            raise SystemExit("the compiled graph gives other statistics")


if __name__ == "__main__":
    main()
