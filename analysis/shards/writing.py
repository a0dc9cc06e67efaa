"""Pictures → X_res, X_attn and X_sum of chosen layers → shards, one after another.

The house's long loop, `clearclip.runs.stream`, keeps what it has counted in one small file that it writes anew every few
seconds. Here the total is the export itself, which may be terabytes, so each finished shard is kept as it is, and an
interrupted run goes on at the first one that is missing. The reading is the stream's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from analysis.probes import images as image_source
from analysis.probes.probe import Probe
from analysis.shards import protocol, shard
from analysis.shards.plan import Plan
from analysis.shards.shard import Header, ListedPicture, Written
from clearclip.entries import Record
from clearclip.errors import UserError
from clearclip.models.checkpoint import file_digest
from clearclip.models.finite import feature_sites, require_finite
from clearclip.models.wrap import ModelLike, as_backbone
from clearclip.outputs import refuse_unwritable
from clearclip.pictures import BadImage
from clearclip.runs.processes import Processes, processes
from clearclip.runs.records import refuse_changed
from clearclip.runs.reservation import reserved
from clearclip.runs.stream import read_ahead, tell_skipped
from clearclip.runs.unfinished_files import differences, set_aside
from clearclip.words import counted


def export_tokens(
    model: ModelLike,
    images: Any = None,
    folder: str | Path = "results/features",
    *,
    layers: Sequence[int] = (),
    features: Sequence[str] = ("X_sum",),
    tokens: str = "patches",
    dtype: str = "fp32",
    shard_tokens: int = 65536,
    image_size: int | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    strict: bool = False,
    restart: bool = False,
    command: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Write tokens of chosen layers and features as safetensors shards, which `TokenShards` reads.

    Args:
        model: what `clearclip.load` gives, a live module, or a name.
        images: any kind of pictures, see `analysis.probes.images.pictures`; None for scikit-image's photographs.
        folder: where the shards and their protocol go.
        layers: which layers, counted 1 … depth; none for the last.
        features: which of X_res, X_attn and X_sum.
        tokens: "patches", or "all" with CLS and registers.
        dtype: of the numbers on disk: "fp32", "fp16" or "bf16".
        shard_tokens: at most so many tokens in a shard.
        image_size: side in pixels; None for the weights' own.
        batch_size: pictures in one forward pass.
        limit: only the first so many pictures of each source.
        strict: raise on the first picture that cannot be read, instead of naming, counting and skipping it.
        restart: set aside what another export has left in the folder.
        command: the command line that the protocol names.
        progress: show a progress bar.

    One shard is held in memory, three times while it is written. Interrupted, the same call goes on at the first shard that is
    missing and gives the same bytes. Under torchrun every process writes a share of the shards.

    Returns: the protocol, which stands in the folder as protocol.json.
    Raises: `UserError` for an export of something else in the folder, for pictures that have changed since, for unusable
    options, for non-finite values, or if not one picture could be used; under torchrun `Finished` in all processes but the first.

    >>> import tempfile, clearclip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     about = export_tokens(clearclip.load("clip_tiny"), folder=folder, limit=2, layers=[3, 6], progress=False)
    >>> about["length"], about["width"], [shard["length"] for shard in about["shards"]]
    (128, 96, [128])
    """
    model, folder = as_backbone(model), Path(folder)
    entries = image_source.pictures(images, limit)
    plan = Plan(model, entries, layers or (model.depth,), features, tokens, dtype, shard_tokens, image_size, batch_size)
    refuse_unwritable(folder / protocol.JSON)
    group = processes()
    with reserved(folder / protocol.JSON):
        there: dict[int, Written] = {}
        if group.number == 0:
            if restart:
                _set_all_aside(folder)
            there = _finished(plan, folder, progress)
        there = group.gather(there)[0]
        missing = [number for number in range(plan.count) if number not in there]
        if there and group.number == 0:
            group.tell(f"{folder} has {len(there)} of {counted(plan.count, 'shard')} already")
        for share in group.gather(_write_shards(plan, folder, group.share(missing), strict, group, progress)):
            there |= share
        group.leave_the_rest_to_the_first()
        return protocol.write(folder, plan, [there[number] for number in sorted(there)], command)


def _set_all_aside(folder: Path) -> None:
    """Rename everything that an export has left in a folder, and say so."""
    left = [*shard.shards_in(folder).values(), *(folder / name for name in protocol.FILES)]
    aside = [set_aside(path, "dropped") for path in left if path.is_file()]
    if aside:
        warnings.warn(f"{len(aside)} files of another export are set aside in {folder} as ….dropped.", stacklevel=2)


def _finished(plan: Plan, folder: Path, progress: bool) -> dict[int, Written]:
    """The shards that are there and whole, by their numbers; damaged ones are set aside.

    Raises: `UserError` if they are of another export, or of pictures that have changed.
    """
    files = shard.shards_in(folder)
    headers = {number: header for number, path in files.items() if (header := shard.read_header(path))}
    before = protocol.read_json(folder)
    if before is None and not files:
        protocol.refuse_foreign(folder)
    described = [] if before is None else [{fact: before.get(fact) for fact in plan.facts}]
    for facts in [*described, *(header.facts for header in headers.values())]:
        if other := differences(facts, plan.facts):
            raise UserError(
                f"{folder} holds an export with other {other}. Name another folder (--output), or start anew with --restart, "
                "which sets aside what is there."
            )
    whole: dict[int, Written] = {}
    for number, path in tqdm(files.items(), "check", unit="shard", disable=not progress or not files, leave=False):
        found = Written(path, file_digest(path))
        if number in headers and shard.fits_its_name(found, headers[number]):
            whole[number] = found
        else:
            warnings.warn(
                f"{path} is damaged: its content does not fit its name. It is kept as {set_aside(path, 'damaged')}, and "
                "written anew.",
                stacklevel=2,
            )
    seen = [picture for number in whole for picture in headers[number].pictures]
    refuse_changed(plan.entries, {picture.number: Record("", picture.sha256) for picture in seen}, folder)
    return whole


def _write_shards(
    plan: Plan, folder: Path, numbers: Sequence[int], strict: bool, group: Processes, progress: bool
) -> dict[int, Written]:
    """Write these shards, one after another; pictures of the next are read meanwhile."""
    batches = [batch for number in numbers for batch in plan.batches(number)]
    probe = Probe(plan.model, plan.layers, plan.features, reduce=lambda x: Taken.of(x, plan))
    bar = tqdm(
        total=sum(map(len, batches)),
        unit="img",
        desc=plan.model.name,
        disable=not progress or group.number > 0 or not batches,
    )
    written = {}
    with bar, closing(read_ahead(plan.read, batches)) as reading, torch.inference_mode(), probe:
        probe.clear()  # every pass is checked by itself, and a shard may have no picture that can be read
        for number in numbers:
            rows = Rows(plan, number)
            for batch, read in islice(reading, len(plan.batches(number))):
                pictures, records = zip(*read, strict=True)
                tell_skipped(pictures, strict, group)
                rows.add(batch, pictures, records, probe)
                bar.update(len(batch))
            header = Header(number, plan.facts, tuple(rows.listed))
            written[number] = shard.write(folder, header, rows.tensors())
    return written


class Taken(NamedTuple):
    """What is taken of one map of a batch: its tokens as they are written, and whether map and tokens are finite."""

    tokens: Tensor  # (B, tokens of a picture, D)
    map_is_finite: Tensor  # (B,)
    tokens_are_finite: Tensor  # (B,)

    @classmethod
    def of(cls, x: Tensor, plan: Plan) -> Taken:
        """Of a map (B, L, D)."""
        tokens = x[:, plan.first :].to(plan.dtype)
        return cls(tokens, *(values.isfinite().flatten(1).all(1) for values in (x, tokens)))


class Rows:
    """The rows of the shard that is being made."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        capacity = len(plan.pictures(number)) * plan.per_picture
        self.values = {name: torch.empty((capacity, plan.model.width), dtype=plan.dtype) for name in plan.names}
        self.used: list[int] = []  # pictures, in the order of their rows
        self.listed: list[ListedPicture] = []  # all pictures, also those that could not be used

    def add(
        self,
        batch: Sequence[int],
        pictures: Sequence[Tensor | BadImage],
        records: Sequence[Record],
        probe: Probe[Taken],
    ) -> None:
        """Run those pictures of a batch that could be read through the model, and take their rows in."""
        for index, picture, record in zip(batch, pictures, records, strict=True):
            entry, skipped = self.plan.entries[index], str(picture) if isinstance(picture, BadImage) else ""
            self.listed.append(ListedPicture(index, entry.name, entry.source, record.content, skipped))
        good = {index: x for index, x in zip(batch, pictures, strict=True) if isinstance(x, Tensor)}
        if not good:
            return
        images = torch.stack([*good.values()])
        taken = [*probe.run(images.pin_memory() if self.plan.model.device.type == "cuda" else images).values()]
        self._refuse_infinite(taken, [self.plan.entries[index].name for index in good])
        start = len(self.used) * self.plan.per_picture
        for name, site in zip(self.plan.names, taken, strict=True):
            rows = site.tokens.flatten(0, 1)
            self.values[name][start : start + len(rows)] = rows.cpu()
        self.used += good

    def _refuse_infinite(self, taken: Sequence[Taken], names: Sequence[str]) -> None:
        """Raise `UserError` for a map that is not finite, or that the type on disk cannot hold."""
        plan, sites = self.plan, feature_sites(self.plan.layers, self.plan.features)
        require_finite(torch.stack([site.map_is_finite for site in taken], 1), names, sites, plan.model)
        for where, site in zip(sites, taken, strict=True):
            if not site.tokens_are_finite.all():
                raise UserError(
                    f"{names[int(site.tokens_are_finite.int().argmin())]}: {where} of {plan.model.name} has values beyond "
                    f"{torch.finfo(plan.dtype).max:g}, which {plan.facts['dtype']} cannot hold: choose --dtype bf16 or fp32."
                )

    def tensors(self) -> Mapping[str, Tensor]:
        """What the shard holds: the tokens of every layer and feature, and where they come from."""
        count, each = len(self.used), self.plan.per_picture
        places = {name: place.repeat(count) for name, place in self.plan.places.items()}
        picture = torch.tensor(self.used, dtype=torch.int32).repeat_interleave(each)
        return {name: values[: count * each] for name, values in self.values.items()} | {"picture": picture} | places
