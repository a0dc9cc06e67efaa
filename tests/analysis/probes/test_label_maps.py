"""Label maps of several recipes: measured, kept, and read back."""

import numpy as np
import pytest
from PIL import Image

import clearclip
from analysis.probes.label_maps import label_maps, read, recipes_of, segmented
from clearclip.datasets import Sample, load
from clearclip.errors import UserError
from clearclip.methods.recipes import Recipe, feature_recipe
from clearclip.runs import results

RECIPES = ("clip", "clearclip", "X_attn")


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny")


@pytest.fixture(scope="module")
def samples():
    scenes = load("scenes", split="test", count=2, size=48)
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8))
    return [
        *(scenes[i] for i in range(2)),
        Sample(wide, np.full((300, 600), 255, np.uint8), "unlabelled"),
    ], scenes.classes


@pytest.fixture(scope="module")
def dataset(model, samples):
    return label_maps(model, *samples, RECIPES)


def test_labels_are_those_of_each_recipe_alone(model, samples, dataset):
    pictures, classes = samples
    for recipe in ("clip", "clearclip", feature_recipe("X_attn")):
        name = getattr(recipe, "name", recipe)
        alone = clearclip.Segmenter(model, classes, recipe)(pictures[1].image)
        kept = dataset.labels.sel(model="clip_tiny", recipe=name, image=pictures[1].name)
        np.testing.assert_array_equal(kept.values[:48, :48], alone.labels)
        assert (kept.values[48:] == 255).all() and (kept.values[:, 48:] == 255).all()
        accuracy = dataset.pixel_accuracy.sel(model="clip_tiny", recipe=name, image=pictures[1].name)
        assert float(accuracy) == pytest.approx(100 * (alone.labels == pictures[1].label).mean())


def test_the_oracle_is_told_the_true_labels(model, samples):
    pictures, classes = samples
    dataset = label_maps(model, pictures[:2], classes, ["oracle", "clearclip"])
    alone = clearclip.Segmenter(model, classes, "oracle")(pictures[1].image, truth=pictures[1].label)
    np.testing.assert_array_equal(dataset.labels.sel(recipe="oracle", image=pictures[1].name).values[0], alone.labels)
    with pytest.raises(UserError, match="only where there are true labels"):
        label_maps(model, [pictures[0].image], classes, ["oracle"])


def test_large_pictures_are_kept_smaller_and_labels_stay_labels(model, samples, dataset):
    pictures, classes = samples
    assert dataset.sizes == {"model": 1, "recipe": 3, "image": 3, "row": 256, "column": 512, "rgb": 3, "class": 26}
    assert dataset.height.values.tolist() == [48, 48, 256] and dataset.width.values.tolist() == [48, 48, 512]
    whole = clearclip.Segmenter(model, classes)(pictures[2].image).labels
    kept = dataset.labels.sel(recipe="clearclip", image="unlabelled").values[0]
    rows = ((np.arange(256) + 0.5) * 300 / 256).astype(int)
    columns = ((np.arange(512) + 0.5) * 600 / 512).astype(int)
    np.testing.assert_array_equal(kept, whole[np.ix_(rows, columns)])
    assert (dataset.truth.sel(image="unlabelled") == 255).all()
    assert dataset.pixel_accuracy.sel(image="unlabelled").isnull().all()


def test_the_dataset_says_where_it_comes_from(model, dataset):
    assert dataset.weights_sha256.item() == model.weights.sha256 and not dataset.random_weights.item()
    assert list(Recipe.from_coords(dataset).values()) == recipes_of(RECIPES)
    assert {"libraries", "command", "created", "images"} <= set(dataset.attrs)
    assert all({"long_name", "units"} <= set(variable.attrs) for variable in dataset.data_vars.values())


def test_it_is_the_same_after_it_was_written(dataset, tmp_path):
    results.write(dataset, tmp_path / "maps.nc")
    again = read(tmp_path / "maps.nc")
    assert again.identical(dataset) or again.equals(dataset)
    dataset.drop_vars("labels").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(UserError, match=r"python -m analysis.maps"):
        read(tmp_path / "other.nc")


@pytest.mark.filterwarnings("ignore:clip_tiny was never trained")
def test_more_than_254_classes_need_16_bits(model):
    picture = Sample(Image.new("RGB", (20, 20)), np.array([[300]], np.uint16).repeat(20, 0).repeat(20, 1), "one")
    classes = [f"class {i}" for i in range(301)]
    segmenter = clearclip.Segmenter(model, classes, prompts="photo")
    kept = segmented(segmenter, picture, np.uint16)
    assert kept[0].shape == (20, 20, 3) and kept[2].dtype == np.uint16 and (kept[2] == 300).all()
