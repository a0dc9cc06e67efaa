"""What does one compiled graph gain? The statistics of Fig. 4 of every map, with hooks, with hooks compiled, and in one trace.

    python -m benchmarks.compiled --model dino_vitb16 --batch-sizes 1 8 --repeats 9

Three ways to the same numbers take turns: the model as its library runs it, with our hooks; that compiled, where every hook
breaks the graph; and `analysis.probes.compiled`, what `--compiled` runs. They are compared with a plain pass, eager and compiled.
Results are compared before timing, and compiling is not counted. Weights are random unless the model is shipped, which changes
no time.
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

import clearclip
from analysis.probes.collector import summaries
from analysis.probes.compiled import TOLERANCE, CompiledPass
from analysis.probes.statistics import FIGURE_4, STATISTICS
from benchmarks.common import Row, row, show, turns
from benchmarks.probe import collector
from clearclip.models.block import FEATURES
from clearclip.models.names import SHIPPED

NAME = "compiled"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino_vitb16")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--all", action="store_true", help="all 12 statistics, and not only those of Fig. 4")
    parser.add_argument("--no-breaks", action="store_true", help="leave out the graph that hooks break")
    parser.add_argument("--backend", default="inductor", help="of torch.compile; eager only traces")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main() -> None:
    args = options().parse_args()
    weights = "shipped weights" if args.model in SHIPPED else "random weights"
    show(rows(args), f"{args.model}, {weights}, {args.device}")


@torch.inference_mode()
def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    return [row for size in args.batch_sizes for row in of_size(args, size)]


def of_size(args: argparse.Namespace, size: int) -> list[Row]:
    """The rows of one batch size."""
    plain, hooked, compiled, broken = (
        clearclip.load(args.model, random=args.model not in SHIPPED, device=args.device) for _ in range(4)
    )
    images = torch.randn(size, 3, plain.image_size, plain.image_size, device=plain.device)
    names = tuple(STATISTICS) if args.all else FIGURE_4
    with ExitStack() as stack:
        collectors = [collector(model, images, names) for model in (hooked, broken)]
        for each in collectors:  # attached once, since attaching forgets what was compiled before
            stack.enter_context(each.running())
        reduce = partial(summaries, needed=collectors[0].needed, starts=collectors[0].starts)
        graph = CompiledPass(plain, plain.layers(), FEATURES, reduce, size, args.backend)
        one_graph = collector(plain, images, names, graph)
        for model in (compiled, broken):
            model.vit.compile(backend=args.backend)
        require_alike(collectors[0].measure(images), one_graph.measure(images))
        variants: dict[str, Callable[[], object]] = {
            "plain pass": partial(plain, images),
            "statistics with hooks": partial(collectors[0].measure, images),
            "plain pass, compiled": partial(compiled, images),
            "statistics with hooks, compiled, a break at each": partial(collectors[1].measure, images),
            "statistics in one compiled graph": partial(one_graph.measure, images),
        }
        if args.no_breaks:
            del variants["statistics with hooks, compiled, a break at each"]
        taken = turns(variants, args.repeats)
    eager, compiled_pass = "plain pass", "plain pass, compiled"
    about = f"of {args.model}, batch {size}"
    found = [row(NAME, f"{eager} {about}", "", "ms", [1000 * seconds for seconds in taken.wall[eager]])]
    for name in variants:
        for other in (eager, compiled_pass):
            if name != other and not (other == compiled_pass and "compiled" not in name) and name != eager:
                found.append(row(NAME, f"{name}, {about}", other, "×", taken.ratios(name, other)))
    return found


def require_alike(ours: Mapping[str, Tensor], compiled: Mapping[str, Tensor]) -> None:
    """Stop where a compiled graph gives other numbers."""
    for name, values in ours.items():
        a, b = values.float(), compiled[name].float()
        if not torch.allclose(a, b, rtol=0, atol=TOLERANCE * a[a.isfinite()].abs().max().item(), equal_nan=True):
            raise SystemExit(f"the compiled graph gives another {name}")


if __name__ == "__main__":
    main()
