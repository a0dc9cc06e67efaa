"""A picture or label that changes after it was counted is noticed, though its name and byte count stay the same."""

import os

import numpy as np
import pytest
from PIL import Image
from test_measurements import same, shared

import clearclip
from analysis.probes import store
from analysis.probes.collection import collect, collect_models
from analysis.probes.images import pictures
from analysis.prototypes.run import measure
from analysis.prototypes.table import merge
from clearclip.datasets import load
from clearclip.datasets.entries import digest_now as data_digest
from clearclip.entries import digest_now
from clearclip.errors import UserError
from clearclip.evaluation.run import evaluate
from clearclip.runs import stream as streaming

COUNT, SIDE = 6, 32
QUIET = {"batch_size": 1, "progress": False}


def statistics(root, **how):
    return collect(clearclip.load("dino_tiny"), root / "images", ["entropy"], image_size=SIDE, **QUIET, **how)


def evaluation(root, **how):
    return evaluate(clearclip.load("clip_tiny"), load(root), "clip", prompts="photo", **QUIET, **how)


def prototypes(root, **how):
    return measure(clearclip.load("dino_tiny"), load(root), layers=[6], short_side=SIDE, **QUIET, **how)


RUNS = {run.__name__: run for run in (statistics, evaluation, prototypes)}


def stored(dataset):
    """The digest that a Dataset carries."""
    return dataset.data_sha256.item() if "data_sha256" in dataset.coords else dataset.attrs["image_list_sha256"]


@pytest.fixture
def root(request, tmp_path):
    """Six pictures in a format whose byte count says nothing, with labels that are not compressed either."""
    rng, folder = np.random.default_rng(0), tmp_path / "mine"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for i in range(COUNT):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{i}.{getattr(request, 'param', 'bmp')}")
        Image.fromarray(pixels[..., 0] % 2).save(folder / f"labels/{i}.png", compress_level=0)
    (folder / "classes.txt").write_text("cat\ngrass\n")
    return folder


def file(root, part, index):
    (path,) = (root / part).glob(f"{index}.*")
    return path


def turn(path):
    """Other contents in as many bytes, and the file's time set back."""
    before = path.stat()
    with Image.open(path) as image:
        turned = Image.fromarray(np.asarray(image)[::-1].copy())
    turned.save(path, **({"compress_level": 0} if path.suffix == ".png" else {}))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def interrupt(run, root, kept, monkeypatch, batches=2):
    """A run that is stopped after some batches."""
    updated, left = streaming._updated, [batches]

    def stopped(*given):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return updated(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(streaming, "_updated", stopped)
        run(root, unfinished=kept)


@pytest.mark.parametrize(
    ("run", "part", "root"),
    [
        ("statistics", "images", "bmp"),
        ("statistics", "images", "tif"),
        ("statistics", "images", "ppm"),
        ("evaluation", "images", "tif"),
        ("evaluation", "labels", "bmp"),
        ("prototypes", "images", "ppm"),
        ("prototypes", "labels", "bmp"),
    ],
    indirect=["root"],
)
def test_what_was_counted_may_not_change_and_what_was_not_may(run, part, root, tmp_path, monkeypatch):
    kept, run = tmp_path / "kept.nc", RUNS[run]
    interrupt(run, root, kept, monkeypatch)
    counted = file(root, part, 0)
    turn(counted)
    with pytest.raises(UserError, match=rf"{counted.name}.* --restart"):
        run(root, unfinished=kept)
    turn(counted)  # put back: only its time differs
    turn(file(root, part, COUNT - 1))
    same(run(root, unfinished=kept), run(root))
    turn(counted)
    with pytest.raises(UserError, match=counted.name):  # a run that is complete and not written yet
        run(root, unfinished=kept)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_digests_are_of_contents_whoever_read_them(run, root, tmp_path, monkeypatch):
    (root / "images/3.bmp").write_bytes(b"broken")
    whole = run(root)
    now = digest_now(pictures(root / "images")) if run is statistics else data_digest(load(root))
    assert stored(whole) == now  # so that a finished result is known again, broken pictures or not
    interrupt(run, root, tmp_path / "kept.nc", monkeypatch)
    assert stored(run(root, unfinished=tmp_path / "kept.nc")) == now
    with monkeypatch.context() as patch:
        shared(patch, 2)
        patch.setattr("test_identity.collect", collect)
        assert stored(run(root)) == now
    turn(file(root, "images", 0))
    assert stored(run(root)) != now


def test_a_picture_that_changes_between_two_models_is_noticed(root, tmp_path):
    def second():
        turn(file(root, "images", 0))
        return clearclip.load("clip_tiny")

    loaders, how = [lambda: clearclip.load("dino_tiny"), second], {"image_size": SIDE, **QUIET}
    with pytest.raises(UserError, match="did not see the same data"):
        collect_models(loaders, pictures(root / "images"), ["entropy"], tmp_path / "entropy.nc", **how)
    before = [prototypes(root)]
    turn(file(root, "labels", 1))
    with pytest.raises(UserError, match="mine: the models did not see the same data"):
        merge([*before, prototypes(root).assign_coords(model=["another"])])


def test_a_data_set_without_a_promise_is_read_again(tmp_path, monkeypatch):
    class Mine:
        """As torchvision's: pairs of picture and label map, and no identity."""

        classes = ("cat", "grass")

        def __init__(self):
            self.light = 0

        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            pixels = np.full((SIDE, SIDE, 3), 40 * index + self.light, np.uint8)
            return Image.fromarray(pixels), pixels[..., 0] % 2

    def run(mine, **how):
        return evaluate(clearclip.load("clip_tiny"), mine, "clip", prompts="photo", **QUIET, **how)

    mine = Mine()
    interrupt(run, mine, tmp_path / "kept.nc", monkeypatch)
    mine.light = 1
    with pytest.raises(UserError, match="Mine 0, Mine 1"):
        run(mine, unfinished=tmp_path / "kept.nc")
    changed = stored(run(mine))
    mine.light = 0
    assert stored(run(mine, unfinished=tmp_path / "kept.nc")) != changed


def test_models_of_the_same_pictures_are_joined(tmp_path, photos):
    parts = [
        collect(clearclip.load(name), photos, ["entropy"], image_size=SIDE, progress=False)
        for name in ("dino_tiny", "clip_tiny")
    ]
    assert store.merge_models(parts).attrs["image_list_sha256"] == stored(parts[0])
