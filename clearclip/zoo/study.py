"""When does the residual start to hurt? Many short trainings of one small CLIP: ``python -m clearclip.zoo.study``.

Every combination of depth, pictures and captions is trained with the same seed and budget, and examined as it learns.
A run whose result lies in the folder is not repeated; a run that was stopped goes on.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from clearclip import outputs
from clearclip.cli import parse, run
from clearclip.runs import results
from clearclip.segmentation.style import save
from clearclip.zoo import CLIP_TINY, build_clip_tiny, study_figures, train_clip
from clearclip.zoo.measure import Exam, along


@dataclass
class Config:
    """What is varied, and the budget of each run; the defaults are those of the page."""

    folder: Path = Path("runs/study")  # one result per run; `study.nc` holds all that are there
    pictures: Path = Path("runs/pictures")
    blocks: tuple[int, ...] = (4, 6, 8, 12)
    kinds: tuple[str, ...] = ("single", "few", "many")  # pictures of 1, of 1 to 3 large, of 2 to 6 small things
    ground: tuple[float, ...] = (0.1, 0.6)  # share of captions about things that name the ground, too
    late: float = 0.95  # extra runs: share of steps in which the CLS token reads patches in the last block only
    late_blocks: tuple[int, ...] = (6,)  # depths of these
    count: int = 12_000  # pictures of each kind
    seed: int = 0
    steps: int = 300
    batch: int = 64
    peak: float = 3e-3
    weight_decay: float = 0.02
    every: int = 75  # steps between two exams
    scenes: int = 200  # in an exam
    training: Path | None = None  # also the folder of a training of clip_tiny, whose snapshots are examined, too
    threads: int = 1


Place = tuple[int, str, float, float]  # blocks, kind, ground, late


def places(config: Config) -> list[Place]:
    """All combinations, those nearest to the shipped model first."""
    grid = product(config.blocks, config.kinds, config.ground, (0.0, config.late))
    wanted = [place for place in grid if not place[3] or place[0] in config.late_blocks]
    return sorted(wanted, key=lambda place: (place[0] not in config.late_blocks) + (place[2] != config.ground[0]))


def training(config: Config, place: Place) -> train_clip.Config:
    """The training of one combination."""
    blocks, kind, ground, late = place
    return train_clip.Config(
        folder=config.folder / f"{blocks}-{kind}-ground{ground:g}-late{late:g}",
        pictures=config.pictures, count=config.count, first=(kind,), then=(kind,), change=(0, 0), ground=ground,
        part=1.0, blocks=blocks, seed=config.seed, steps=config.steps, batch=config.batch, peak=config.peak,
        weight_decay=config.weight_decay, whole=0, late=late, renewed=-1, snapshots=config.every, threads=config.threads,
    )  # fmt: skip


def examined(folder: Path, exam: Exam, configuration: dict[str, Any] = CLIP_TINY) -> xr.Dataset:
    """A training's answers at all its snapshots."""
    files = sorted(folder.glob("step*.safetensors"))
    answers = [exam(build_clip_tiny(file, configuration)) for file in files]
    return along(answers, [int(file.stem.removeprefix("step")) for file in files])


def main(config: Config) -> None:
    """The command `python -m clearclip.zoo.study`."""
    torch.set_num_threads(config.threads)
    outputs.refuse_unwritable(config.folder / "study.nc")
    exam = None
    parts = []
    for place in places(config):
        one = training(config, place)
        file = one.folder.parent / f"{one.folder.name}.nc"
        if not file.exists():
            train_clip.main(one)
            exam = exam or Exam(config.scenes)
            results.write(examined(one.folder, exam, train_clip.configuration(one)), file)
        names = ("blocks", "kind", "ground", "late")
        parts.append(results.read(file).expand_dims({name: [value] for name, value in zip(names, place, strict=True)}))
        results.write(combined(parts), config.folder / "study.nc")
    for ground in config.ground:
        save(study_figures.gaps(combined(parts), ground), config.folder / f"gaps-ground{ground:g}.png")
        save(study_figures.streams(combined(parts), ground), config.folder / f"streams-ground{ground:g}.png")
    if config.training:
        curve = examined(config.training, exam or Exam(config.scenes))
        results.write(curve, config.folder / "training.nc")
        save(study_figures.learning(curve, {}), config.folder / "training.png")


def combined(parts: list[xr.Dataset]) -> xr.Dataset:
    """All runs in one Dataset; what was not run, and blocks that a model lacks, are NaN."""
    layers = range(1, max(part.sizes["layer"] for part in parts) + 1)
    aligned = [part.reindex(layer=layers) for part in parts]
    whole = xr.combine_by_coords(aligned, data_vars="all", combine_attrs="override", join="outer")
    assert isinstance(whole, xr.Dataset)  # as every part is
    return whole.astype(np.float32).assign_attrs(results.provenance())


if __name__ == "__main__":
    run(lambda: main(parse(Config, __doc__)))
