"""A name, a folder, an object and a torch Dataset are all data sets."""

import layouts
import numpy as np
import pytest
from torch.utils.data import Dataset

import clearclip
from clearclip.datasets import FolderDataset, as_dataset, load
from clearclip.errors import UserError
from clearclip.pictures import BadImage

QUIET = {"progress": False, "prompts": "photo"}


class Mine(Dataset):
    """What somebody who trains has at hand: tensors of pictures and label maps."""

    def __init__(self, scenes, damage=None):
        self.scenes, self.classes, self.damage = scenes, scenes.classes, damage

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        picture, label, _ = self.scenes[index]
        return np.asarray(picture), self.damage(label) if self.damage else label.astype(np.int64)


@pytest.fixture(scope="module")
def scenes():
    return load("scenes", count=2, split="test")


def test_a_torch_dataset_of_pairs_gives_the_numbers_of_its_pictures(scenes):
    mine = clearclip.evaluate("clip_tiny", Mine(scenes), "clearclip", **QUIET)
    theirs = clearclip.evaluate("clip_tiny", scenes, "clearclip", **QUIET)
    assert np.array_equal(mine.confusion, theirs.confusion)
    assert mine.dataset.item() == "Mine" and mine["class"].values.tolist() == scenes.classes


def test_names_folders_and_objects(tmp_path, scenes):
    assert as_dataset(scenes) is scenes
    assert as_dataset("scenes").name == "scenes"
    folder = layouts.folder(tmp_path / "own", [0, 1], "cat", "dog")
    for dataset in (as_dataset(folder), as_dataset(str(folder)), load(str(folder)), load(folder)):
        assert isinstance(dataset, FolderDataset) and dataset.classes == ["cat", "dog"]
    result = clearclip.evaluate("clip_tiny", folder, "clip", **QUIET)
    assert result.dataset.item() == "own" and result.images.item() == 1


@pytest.mark.parametrize(
    ("make", "raw", "written"),
    [
        (layouts.ade20k, [0, 1], "ade20k:"),
        (layouts.voc, [0, 1], "voc20:"),
        (layouts.coco, [0, 1], "coco_stuff:"),
        (layouts.cityscapes, [7, 8], "cityscapes:"),
    ],
)
def test_the_folder_of_a_benchmark_is_answered_with_how_it_is_written(tmp_path, make, raw, written):
    root = make(tmp_path / "tree", raw)
    for ask in (load, as_dataset, lambda root: clearclip.evaluate("clip_tiny", root)):
        with pytest.raises(UserError, match=f"benchmark: write .*{written}{root}"):
            ask(root)


def test_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(UserError, match="half unpacked"):
        load(tmp_path)
    for ask in (load, as_dataset):
        with pytest.raises(UserError, match="no such folder"):
            ask(tmp_path / "gone")


@pytest.mark.parametrize("wrong", [5, None, [1, 2], Dataset()])
def test_what_is_no_data_set_is_told_what_is(wrong):
    with pytest.raises(UserError, match=r"a data set cannot be made of \w+: give a name .* a folder .* `classes`"):
        as_dataset(wrong)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda label: 3, "one number"),
        (lambda label: label[:5], r"\(5, 64\)"),
        (lambda label: label / 2, "float64"),
        (lambda label: label + 200, "neither of 26 classes nor ignored"),
    ],
)
def test_labels_that_cannot_be_used_are_named(scenes, damage, message):
    with pytest.raises(BadImage, match=f"Mine 0: .*{message}"):
        as_dataset(Mine(scenes, damage))[0]
