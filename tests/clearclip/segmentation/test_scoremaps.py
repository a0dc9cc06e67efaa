"""Scores in pieces are the scores of the whole picture, and need little memory."""

import io

import numpy as np
import pytest
import torch
from commands import process
from plain_labels import plain_scores, same_labels

from clearclip.errors import UserError
from clearclip.methods.windows import PatchLogits, Windows
from clearclip.segmentation import scoremaps
from clearclip.segmentation.labelling import class_labels
from clearclip.segmentation.scoremaps import ScoreMaps


def made(size, names, classes, windows=Windows(64, 200, 64, 32), patch=8):  # noqa: B008
    """Score maps of random cosines."""
    generator, resized = torch.Generator().manual_seed(0), windows.resized(*size)
    parts = [
        (box, 0.2 + 0.05 * torch.randn(names, 1 + (box[2] - box[0]) // patch, 1 + (box[3] - box[1]) // patch, generator=generator))
        for box in windows.boxes(*resized)
    ]  # fmt: skip
    owner = torch.arange(names).clamp(max=classes - 1)
    return ScoreMaps(PatchLogits(parts, resized, patch), size, owner, classes)


SIZES = [(301, 97), (97, 301), (150, 200), (200, 131)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("names", "classes"), [(1, 1), (5, 3), (40, 40)])
@pytest.mark.parametrize("at_once", [2**12, 2**14])
def test_pieces_equal_the_whole(size, names, classes, at_once, monkeypatch):
    monkeypatch.setattr(scoremaps, "AT_ONCE", at_once)
    maps = made(size, names, classes)
    whole = plain_scores(maps.logits, size, maps.owner)
    pieces = list(maps.pieces())
    assert len(pieces) > 1
    assert [i for columns, _ in pieces for i in range(columns.start, columns.stop)] == list(range(size[1]))
    joined = torch.cat([scores for _, scores in pieces]).permute(2, 1, 0)
    torch.testing.assert_close(joined, whole, rtol=0, atol=2e-6)
    labels, best = maps.labels()
    assert same_labels(torch.from_numpy(labels).long(), whole) and labels.dtype == np.uint8
    assert np.allclose(best, joined.amax(0), rtol=0, atol=2e-6) and np.array_equal(maps.whole(), joined.numpy())
    assert np.array_equal(maps.of(classes - 1), joined[-1].numpy())


def test_labels_are_those_of_an_evaluation():
    maps = made((120, 90), 35, 12)
    assert np.array_equal(maps.labels()[0], class_labels(maps.logits, (120, 90), maps.owner).numpy())


def test_the_array_in_a_file(monkeypatch):
    maps, file = made((60, 80), 20, 7), io.BytesIO()
    monkeypatch.setattr(scoremaps, "AT_ONCE", 2**13)
    maps.write(file)
    file.seek(0)
    scores = np.load(file)
    assert scores.dtype == np.float16 and np.array_equal(scores, maps.whole().astype(np.float16)) and not file.read()


def test_more_scores_than_memory_should_hold_are_refused_with_their_size():
    maps = made((12_000, 10_000), 20, 20)
    with pytest.raises(
        UserError, match=r"20 classes at 10000×12000 pixels are 9\.6 GB, more than 4\.3 GB.*result\.score"
    ):
        maps.whole()


MEMORY = """
import resource, sys
import numpy as np, torch
from clearclip.segmentation import scoremaps
from clearclip.methods.windows import PatchLogits

torch.set_num_threads(1)
scoremaps.AT_ONCE = 2**20
maps = {name: scoremaps.ScoreMaps(PatchLogits([((0, 0, 32, 32), torch.rand(names, 4, 4))], (32, 32), 8), size,
        torch.arange(names), names) for name, names, size in [("small", 8, (64, 64)), ("large", 100, (800, 1000))]}
peaks = []
for each in maps.values():
    each.labels()
    with open("/dev/null", "wb") as file:
        each.write(file)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) * (1 if sys.platform == "darwin" else 1024))
"""


def test_memory_does_not_grow_with_pixels_times_classes(tmp_path):
    """Eight copies of a piece and 20 bytes for each pixel; the scores themselves would be ten times as much."""
    done = process("-c", MEMORY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pixels, piece = 800 * 1000, 4 * 2**20
    assert int(done.stdout) < 8 * piece + 20 * pixels < 4 * 100 * pixels / 6
