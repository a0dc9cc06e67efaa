"""What collecting costs: all statistics of Fig. 4 at all sites against a plain forward pass of the same model.

    python -m benchmarks.probe --model dino_vitb16 --batch-sizes 1 8 --repeats 9

Repeats are interleaved (plain, ours, plain hooks, nnsight, torchlens, plain, …), so that other load on the machine
meets all of them; a ratio is the median of the ratios within one repeat. The others compute entropy, maximum, Frobenius
norm and channel means by the published float64 formula; before timing, their results are checked against ours.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

import clearclip
from analysis.probes.collector import Collector, Reader
from analysis.probes.images import Picture
from analysis.probes.statistics import FIGURE_4, STATISTICS
from benchmarks.common import Row, row, show, turns
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES

NAME = "probe"
Result = dict[str, Tensor]  # (B, layers, features, token choices, …)
TOLERANCE = {"entropy": 1e-6, "maximum": 0.0, "frobenius_norm": 1e-5, "channel_mean_sorted": 1e-5, "channel_mean": 1e-6}


# what is compared ----------------------------------------------------------------------------------------------------


def published(x: Tensor, prefix: int) -> Result:
    """The statistics of Fig. 4 of one map, for patches and for all tokens, as one writes them down from the paper."""
    choices = []
    for part in (x[:, prefix:], x):
        p = part.double().flatten(1).softmax(-1)
        means = part.mean(1)
        low, high = means.amin(1, keepdim=True), means.amax(1, keepdim=True)
        choices.append(
            {
                "entropy": (-(p * p.log2()).sum(-1) / math.log2(p.shape[1])).float(),
                "maximum": part.amax((1, 2)),
                "frobenius_norm": torch.linalg.matrix_norm(part),
                "channel_mean_sorted": ((means - low) / (high - low)).sort(-1).values,
                "channel_mean": means,
            }
        )
    return {name: torch.stack([choice[name] for choice in choices], 1) for name in choices[0]}


def stacked(sites: list[Result], depth: int) -> Result:
    return {
        name: torch.stack([site[name] for site in sites], 1).unflatten(1, (depth, len(FEATURES))) for name in FIGURE_4
    }


def collector(
    model: Backbone, images: Tensor, names: Sequence[str] = FIGURE_4, reader: Reader | None = None
) -> Collector:
    """The very code that `analysis.collect` runs for a batch."""
    pictures = [Picture(f"{i}.png", lambda: None, "noise") for i in range(len(images))]  # type: ignore[arg-type, return-value]
    statistics = {name: STATISTICS[name] for name in names}
    side, together = images.shape[-1], len(images)
    return Collector(model, pictures, statistics, model.layers(), FEATURES, side, together, reader=reader)


def ours(model: Backbone, images: Tensor, names: Sequence[str] = FIGURE_4) -> Callable[[], Result]:
    """What `collector` measures; attached only while it is timed."""
    own = collector(model, images, names)

    def measure() -> Result:
        with own.running():
            start = time.perf_counter()
            result = own.measure(images)
            measure.seconds = time.perf_counter() - start  # type: ignore[attr-defined]  # collect attaches once per run
        return result

    return measure


def plain_hooks(model: Backbone, images: Tensor) -> Callable[[], Result]:
    """Forward hooks, written by hand."""

    def measure() -> Result:
        sites: list[Result] = []

        def before(module, args, kwargs):
            sites.append(published(args[0] if args else next(iter(kwargs.values())), model.prefix_tokens))

        def after(module, args, output):
            sites.append(published(output, model.prefix_tokens))

        handles = []
        for block in model.blocks:
            for module, end in map(block.site, FEATURES):
                handles.append(
                    module.register_forward_pre_hook(before, with_kwargs=True)
                    if end == "input"
                    else module.register_forward_hook(after)
                )
        model(images)
        for handle in handles:
            handle.remove()
        return stacked(sites, model.depth)

    return measure


def nnsight(model: Backbone, images: Tensor) -> Callable[[], Result]:
    """nnsight's trace, reducing inside it."""
    from nnsight import NNsight

    wrapped = NNsight(model.vit)
    prefix, depth, timm = model.prefix_tokens, model.depth, hasattr(model.vit, "blocks")

    def measure() -> Result:
        with wrapped.trace(images):
            sites = [].save()
            blocks = wrapped.blocks if timm else wrapped.transformer.resblocks
            for i in range(depth):
                sites.append(published(blocks[i].input, prefix))
                sites.append(published(blocks[i].drop_path1.output if timm else blocks[i].ls_1.output, prefix))
                sites.append(published(blocks[i].norm2.input if timm else blocks[i].ln_2.input, prefix))
        return stacked(sites, depth)

    return measure


def torchlens(model: Backbone, images: Tensor) -> Callable[[], Result]:
    """torchlens logs every operation; the maps are read from its log."""
    import torchlens

    norms, added = ("norm1", "norm2"), "drop_path1"
    path = "blocks"
    if not hasattr(model.vit, "blocks"):
        norms, added, path = ("ln_1", "ln_2"), "ls_1", "transformer.resblocks"

    def measure() -> Result:
        trace, sites = torchlens.trace(model.vit, images), []
        for i in range(model.depth):
            inputs = [trace[f"{path}.{i}.{norm}"].input_activations[0] for norm in norms]
            for x in (inputs[0], trace[f"{path}.{i}.{added}"].out, inputs[1]):
                sites.append(published(x, model.prefix_tokens))
        return stacked(sites, model.depth)

    return measure


# timing --------------------------------------------------------------------------------------------------------------


def timed(measure: Callable[[], object]) -> Callable[[], float | None]:
    """A measure that gives the seconds that it took for itself, where it knows them."""

    def run() -> float | None:
        measure()
        return getattr(measure, "seconds", None)

    return run


def agree(name: str, theirs: Result, result: Result) -> bool:
    worst = {key: ((theirs[key] - result[key]).abs() / result[key].abs().clamp_min(1)).max().item() for key in FIGURE_4}
    wrong = {key: value for key, value in worst.items() if value > TOLERANCE[key]}
    if wrong:
        print(f"left out, as it does not give our result: {name} (largest differences {wrong})", file=sys.stderr)
    return not wrong


def precisions(model: Backbone, half: Backbone, images: Tensor) -> list[Row]:
    """How far bf16 autocast is from float32, at the worst."""
    full, low = ours(model, images)(), ours(half, images)()
    differences = {name: float((full[name] - low[name]).abs().max()) for name in ("entropy", "maximum")}
    what = f"largest difference of {{}}, batch {len(images)}"
    return [row(NAME, what.format(name), "bf16 from float32", "", [value]) for name, value in differences.items()]


def compared(measures: dict[str, Callable[[], object]], repeats: int, size: int) -> list[Row]:
    """Every measure against the first."""
    plain, *others = measures
    taken = turns({name: timed(measure) for name, measure in measures.items()}, repeats)
    milliseconds = [1e3 * seconds for seconds in taken.wall[plain]]
    return [
        row(NAME, f"{plain}, batch {size}", "", "ms", milliseconds),
        *(row(NAME, f"{name}, batch {size}", plain, "×", taken.ratios(name, plain)) for name in others),
    ]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino_vitb16", help="a timm or open_clip model, by short name")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--only-ours", action="store_true", help="leave out the other tools")
    parser.add_argument("--no-bf16", action="store_true", help="leave out bf16 autocast")
    return parser


def main() -> None:
    args = options().parse_args()
    with torch.inference_mode():
        show(rows(args), f"{args.model}, random weights")


def rows(args: argparse.Namespace) -> list[Row]:
    """All rows of these options."""
    model = clearclip.load(args.model, random=True, device="cpu")
    half = clearclip.load(args.model, random=True, device="cpu", precision="bf16")
    side, found = args.image_size or model.image_size, []
    others = {"plain hooks, published float64 entropy": plain_hooks}
    others |= {
        f"{tool.__name__}, published float64 entropy": tool for tool in (nnsight, torchlens) if find_spec(tool.__name__)
    }
    without_rank = tuple(name for name in STATISTICS if name != "effective_rank")
    for size in args.batch_sizes:
        images = torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(0))
        measures: dict[str, Callable[[], object]] = {
            f"plain pass of {args.model}": lambda images=images: model(images),
            f"statistics at all {model.depth * len(FEATURES)} sites": ours(model, images),
            f"all {len(STATISTICS)} statistics but the effective rank": ours(model, images, without_rank),
            f"all {len(STATISTICS)} statistics": ours(model, images, tuple(STATISTICS)),
        }
        if not args.only_ours:
            result = ours(model, images)()
            for name, tool in others.items():
                measure = tool(model, images)
                if agree(name, measure(), result):
                    measures[name] = measure
        found += compared(measures, args.repeats, size)
        if not args.no_bf16:
            measures = {
                f"plain pass of {args.model} in bf16": lambda images=images: half(images),
                "statistics at all sites in bf16": ours(half, images),
            }
            found += [*compared(measures, args.repeats, size), *precisions(model, half, images)]
    return found


if __name__ == "__main__":
    main()
