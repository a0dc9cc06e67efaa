"""Drawn scenes: the labels are exact, the splits disjoint, the captions true, the pictures reproducible."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clearclip.datasets.drawn.captions import FACTS, caption, facts
from clearclip.datasets.drawn.scenes import CLASSES, CONTENTS, SEEDS, Scenes, compose, draw
from clearclip.datasets.drawn.textures import STUFF, TEXTURES
from clearclip.datasets.drawn.things import KINDS, PAINT, THINGS
from clearclip.words import listed


def quiet(scene):
    """The scene in flat light and without the camera's noise."""
    return dataclasses.replace(scene, noise=0.0, brightness=1.0, slope=(0.0, 0.0))


def test_a_sample_is_a_picture_with_a_class_for_every_pixel():
    scenes = Scenes("test", count=12, size=48)
    assert (len(scenes), scenes.name, scenes.ignore_index) == (12, "scenes", 255)
    for i in range(len(scenes)):
        image, label, name = scenes[i]
        assert image.mode == "RGB" and image.size == (48, 48) and label.shape == (48, 48) and label.dtype == np.uint8
        assert label.max() < len(scenes.classes)
        assert {scenes.classes[c] for c in np.unique(label)} <= {n for n, _ in scenes.scene(i).nouns} | set(
            scenes.scene(i).stuff
        )
        assert name.endswith(f"{i:06d}")


def test_the_label_of_a_thing_is_where_it_changes_the_picture():
    """Drawn with and without its thing, a picture differs inside the label and, but for smooth edges, nowhere else."""
    for i in range(20):
        scene = quiet(Scenes("test", count=20, kind="single").scene(i))
        image, label = draw(scene, 96)
        empty, ground = draw(dataclasses.replace(scene, things=()), 96)
        changed = (np.asarray(image) != np.asarray(empty)).any(-1)
        thing = label == CLASSES.index(scene.things[0].name)
        assert (label[~thing] == ground[~thing]).all()
        edge = ndimage.maximum_filter(thing, 3) != ndimage.minimum_filter(thing, 3)
        assert changed[thing & ~edge].mean() > 0.99  # a paint may equal the ground by chance
        assert not changed[~thing & ~edge].any()


def test_the_ground_is_below_the_horizon():
    scene = next(s for s in map(Scenes("test", count=50).scene, range(50)) if s.horizon)
    _, label = draw(dataclasses.replace(scene, things=()), 40)
    edge = scene.horizon * 40
    rows = np.arange(40) + 0.5
    assert (label[rows > edge + 1] == CLASSES.index(scene.stuff[0])).all()
    assert (label[rows < edge - 1] == CLASSES.index(scene.stuff[1])).all()


@pytest.mark.parametrize("kind", ["scene", "single"])
def test_the_same_scene_at_two_sizes(kind):
    """Enlarged, the small label map is the large one but for pixels at edges; the pictures have the same colours."""
    for i in range(5):
        scene = quiet(Scenes("validation", count=5, kind=kind).scene(i))
        (small, coarse), (large, fine) = draw(scene, 64), draw(scene, 192)
        assert (coarse.repeat(3, 0).repeat(3, 1) == fine).mean() > 0.93
        assert np.abs(np.asarray(large.reduce(3), float) - np.asarray(small, float)).mean() < 8


def test_a_scene_is_determined_by_its_seed():
    first, again, other = Scenes("train", 4, seed=3), Scenes("train", 9, seed=3), Scenes("train", 4, seed=4)
    assert np.array_equal(first[2].image, again[2].image) and np.array_equal(first[2].label, again[2].label)
    assert not np.array_equal(first[2].image, other[2].image)
    assert first.captions(2) == again.captions(2)


def test_splits_share_no_scene():
    splits = list(SEEDS)
    for a in splits:
        for b in splits:
            assert a == b or not range(max(SEEDS[a][0], SEEDS[b][0]), min(SEEDS[a][-1], SEEDS[b][-1]) + 1)
    drawn = [
        Scenes(split, 50, 16, seed=seed, kind=kind)
        for split in splits
        for seed in (0, 1)
        for kind in ("scene", "single")
    ]
    pictures = {scenes[i].image.tobytes() for scenes in drawn for i in range(50)}
    assert len(pictures) == 50 * len(drawn)


def test_things_only_ignores_the_stuff():
    plain, things = Scenes("test", 10), Scenes("test", 10, stuff="ignored")
    assert things.classes == list(THINGS) and things.name == "scenes_things"
    for i in range(10):
        expected = np.where(plain[i].label < len(THINGS), plain[i].label, 255)
        assert (things[i].label == expected).all() and things[i].label.dtype == np.uint8


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_number_and_size_of_things_are_those_of_the_kind(kind):
    content, scenes = CONTENTS[kind], Scenes("test", 80, kind=kind)
    counts = [len(scenes.scene(i).things) for i in range(80)]
    assert max(counts) <= len(content.shares) - 1
    for scene in map(scenes.scene, range(80)):
        for thing in scene.things:
            low = min(size[0] for size in (content.alone, content.several, content.crowded))
            high = max(size[1] for size in (content.alone, content.several, content.crowded))
            assert low <= thing.radius <= high


def test_background_merges_the_stuff():
    plain, merged = Scenes("test", 10), Scenes("test", 10, stuff="background")
    assert merged.classes == ["background", *THINGS] and plain.classes == [*THINGS, *STUFF]
    for i in range(10):
        names = np.array(plain.classes)[plain[i].label]
        expected = np.where(np.isin(names, STUFF), "background", names)
        assert (np.array(merged.classes)[merged[i].label] == expected).all()


def test_single_scenes_show_one_large_thing():
    scenes = Scenes("test", 60, kind="single")
    for i in range(60):
        things = set(np.unique(scenes[i].label)) & set(range(len(THINGS)))
        assert len(scenes.scene(i).things) == 1 and things == {CLASSES.index(scenes.scene(i).things[0].name)}
        assert (scenes[i].label < len(THINGS)).mean() > 0.02


def test_no_thing_is_hidden_and_every_class_occurs():
    scenes = Scenes("test", 200)
    seen: set[int] = set()
    for i in range(200):
        label, scene = scenes[i].label, scenes.scene(i)
        seen |= set(np.unique(label).tolist())
        assert len({thing.name for thing in scene.things}) == len(scene.things)
        for thing in scene.things:
            assert (label == CLASSES.index(thing.name)).sum() >= 12, (i, thing)
    assert seen == set(range(len(CLASSES)))


def test_every_thing_lies_in_its_square_and_uses_known_paint():
    for name, kind in KINDS.items():
        for part in kind.parts(np.random.default_rng(0)):
            assert np.abs(part.points).max() <= 1.06, name
            assert part.paint == "main" or part.paint in PAINT
        if any(part.paint == "main" for part in kind.parts(np.random.default_rng(0))):
            assert kind.colours, f"{name} has a colour of its own but none to choose from"


@pytest.mark.parametrize("name", STUFF)
def test_textures_are_colours_at_every_size(name):
    for size in (16, 130):
        texture = TEXTURES[name](np.random.default_rng(1), size)
        assert texture.shape == (size, size, 3) and np.isfinite(texture).all()
        assert 0 < texture.mean() < 255 and texture.std() > 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_captions_are_true(seed):
    """Every fact of a caption is true of its scene, and every noun in its words is one of its facts."""
    scene = compose(np.random.default_rng(seed))
    said = caption(scene.nouns, scene.stuff, np.random.default_rng([seed, 1]))
    assert said.facts and set(said.facts) <= set(facts(scene.nouns, scene.stuff)) <= set(FACTS)
    words = said.text.replace(",", " ").replace(".", " ").split()
    assert {word for word in words if word in CLASSES} == {fact for fact in said.facts if fact in CLASSES}
    assert all(fact in said.text for fact in said.facts)


def test_wordings_vary():
    captions = Scenes("train", 5).captions(1, 30)
    assert len({c.text for c in captions}) > 15


def test_listed():
    assert listed(["a cat"]) == "a cat"


@pytest.mark.parametrize(
    "wrong",
    [{"split": "dev"}, {"kind": "crowd"}, {"stuff": "merged"}, {"count": 0}, {"size": 0}, {"seed": -1}],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError):
        Scenes(**wrong)


def test_indices_as_in_a_list():
    scenes = Scenes("test", 3)
    assert np.array_equal(scenes[-1].label, scenes[2].label) and scenes[-1].name == scenes[2].name
    with pytest.raises(IndexError):
        scenes[3]


def test_a_share_of_the_sentences_names_a_part_of_the_things():
    scene, rng = Scenes("train", 40, kind="many").scene(1), np.random.default_rng(0)
    assert len(scene.things) > 2
    named = [sum(fact in THINGS for fact in caption(scene.nouns, scene.stuff, rng, part=1.0).facts) for _ in range(200)]
    assert set(named) >= {1, 2} and max(named) <= 4
    grounded = [caption(scene.nouns, scene.stuff, rng, ground=0.0, part=1.0).facts for _ in range(200)]
    assert all(set(facts) <= set(STUFF) or not set(facts) & set(STUFF) for facts in grounded)
