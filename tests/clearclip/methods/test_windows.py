import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clearclip import load
from clearclip.errors import UserError
from clearclip.methods.windows import Encoded, Windows, logits_of_windows, resize

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@st.composite
def windows(draw):
    crop = draw(st.integers(1, 40))
    return Windows(crop=crop, stride=draw(st.integers(1, crop)))


# boxes ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None, database=None)
@given(windows(), sizes)
def test_boxes_cover_every_pixel_and_stay_inside(cut, size):
    covered = np.zeros(size, int)
    for top, left, bottom, right in cut.boxes(*size):
        assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]
        assert (bottom - top, right - left) == (min(cut.crop, size[0]), min(cut.crop, size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1


@settings(deadline=None, database=None)
@given(windows(), sizes)
def test_the_count_and_the_clamped_last_window(cut, size):
    boxes = cut.boxes(*size)
    counts = [math.ceil(max(side - cut.crop, 0) / cut.stride) + 1 for side in size]
    assert len(boxes) == len(set(boxes)) == counts[0] * counts[1]
    assert boxes[0][:2] == (0, 0) and boxes[-1][2:] == size
    for first, second, side in ((0, 2, size[0]), (1, 3, size[1])):
        starts = sorted({box[first] for box in boxes})
        assert all(start == i * cut.stride for i, start in enumerate(starts[:-1]))
        assert max(box[second] for box in boxes) == side


def test_boxes_of_the_protocol():
    assert Windows().boxes(448, 448) == [(0, 0, 448, 448)]
    assert Windows().boxes(448, 673) == [(0, 0, 448, 448), (0, 224, 448, 672), (0, 225, 448, 673)]
    assert Windows(448, 2048, 224, 224).boxes(225, 100) == [(0, 0, 224, 100), (1, 0, 225, 100)]


@pytest.mark.parametrize(
    "knobs",
    [
        {"crop": 0},
        {"stride": 0},
        {"short_side": 0},
        {"long_side": -1},
        {"stride": 449},
        {"crop": 64, "stride": 65},
    ],
)
def test_sizes_that_make_no_windows(knobs):
    with pytest.raises(UserError, match="at least 1"):
        Windows(**knobs)


# sizes ---------------------------------------------------------------------------------------------------------------


def rescaled(height, width, scale):
    """mmcv's `rescale_size` with a tuple, which mmseg's Resize(scale, keep_ratio=True) uses."""
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)


@settings(deadline=None, database=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_picture_is_resized_as_mmseg_does(height, width):
    expected = tuple(max(side, 1) for side in rescaled(height, width, (2048, 448)))
    assert Windows().resized(height, width) == expected
    assert max(expected) <= 2048 and min(expected) <= 448


def test_known_sizes():
    assert Windows().resized(375, 500) == (448, 597)
    assert Windows().resized(500, 375) == (597, 448)
    assert Windows().resized(1024, 2048) == (448, 896)
    assert Windows().resized(100, 1000) == (205, 2048)


def test_the_protocols_sizes_and_twice_the_own_size_of_a_small_model():
    small = load("timm:test_vit", random=True)
    assert Windows.of(load("dino_vits16", random=True)) == Windows(448, 2048, 448, 224)
    assert small.image_size == 160 and Windows.of(small) == Windows(320, 2048 * 320 // 448, 320, 160)


@pytest.mark.parametrize("size", [(5, 9), (20, 7), (11, 11)])
def test_pixels_are_resized_to_whole_values(size):
    pixels = torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = resize(pixels, size)
    assert ours.shape == (3, *size) and ours.dtype == torch.float32 and torch.equal(ours, ours.round())
    rows, columns = (
        (np.arange(target) + 0.5) * side / target - 0.5 for side, target in zip((8, 12), size, strict=True)
    )
    rows, columns = rows.clip(0, 7), columns.clip(0, 11)
    top, left = np.minimum(rows.astype(int), 6), np.minimum(columns.astype(int), 10)
    down, right = (rows - top)[:, None], (columns - left)[None]
    image = pixels.double().numpy()
    upper = image[:, top][:, :, left] * (1 - right) + image[:, top][:, :, left + 1] * right
    lower = image[:, top + 1][:, :, left] * (1 - right) + image[:, top + 1][:, :, left + 1] * right
    assert np.abs(ours.numpy() - (upper * (1 - down) + lower * down)).max() <= 0.501


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8)
    assert torch.equal(resize(pixels, (4, 6)), pixels.float())


# joining -------------------------------------------------------------------------------------------------------------

PATCH = 4


def fake(crops, regions=None):
    """Logits of two recipes of different grids from the crops alone: means of patches, and of patches of half the side."""
    assert crops.shape[-2] % PATCH == crops.shape[-1] % PATCH == 0
    result = {}
    for name, side in (("coarse", PATCH), ("fine", PATCH // 2)):
        means = F.avg_pool2d(crops, side)
        maps = torch.cat([means, means[:, :1] * means[:, 1:2]], 1)  # (B, 4, rows, columns)
        result[name] = Encoded(maps.flatten(2), tuple(maps.shape[-2:]))
    return result


def by_hand(picture, cut):
    """Every window alone: padded, encoded, enlarged, cut back; then each pixel's average over its windows."""
    height, width = picture.shape[-2:]
    result = {}
    for name in ("coarse", "fine"):
        seen = [[[] for _ in range(width)] for _ in range(height)]
        for top, left, bottom, right in cut.boxes(height, width):
            crop = picture[:, top:bottom, left:right]
            h, w = crop.shape[-2:]
            extra_h, extra_w = math.ceil(h / PATCH) * PATCH - h, math.ceil(w / PATCH) * PATCH - w
            above, before = extra_h // 2, extra_w // 2
            padded = torch.zeros(3, h + extra_h, w + extra_w)
            padded[:, above : above + h, before : before + w] = crop
            logits, grid, *_ = fake(padded[None])[name]
            maps = F.interpolate(logits.reshape(1, 4, *grid), padded.shape[-2:], mode="bilinear")[0]
            for y in range(h):
                for x in range(w):
                    seen[top + y][left + x].append(maps[:, above + y, before + x])
        result[name] = torch.stack([torch.stack([torch.stack(one).mean(0) for one in row], 1) for row in seen], 1)
    return result


def noise(size, seed=0):
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(seed))


def joined(pictures, cut, batch_size=8, encode=fake):
    seen = logits_of_windows(pictures, cut, PATCH, encode, batch_size)
    return [{name: logits.maps() for name, logits in by_recipe.items()} for by_recipe in seen]


@pytest.mark.parametrize(
    ("size", "cut"),
    [
        ((16, 16), Windows(crop=16, stride=8)),
        ((16, 24), Windows(crop=16, stride=8)),
        ((16, 21), Windows(crop=16, stride=8)),
        ((19, 33), Windows(crop=16, stride=12)),
        ((7, 5), Windows(crop=16, stride=8)),  # below one window
        ((1, 1), Windows(crop=16, stride=8)),
        ((9, 30), Windows(crop=16, stride=16)),  # below it in one direction
        ((22, 22), Windows(crop=13, stride=5)),  # a crop that is no multiple of the patch
        ((14, 15), Windows(crop=14, stride=7)),
    ],
)
def test_joining_against_a_loop_over_pixels(size, cut):
    (ours,) = joined([noise(size)], cut)
    theirs = by_hand(noise(size), cut)
    for name in theirs:
        assert ours[name].shape == (4, *size)
        assert torch.allclose(ours[name], theirs[name], atol=1e-5)


@settings(max_examples=15, deadline=None, database=None)
@given(st.tuples(st.integers(1, 24), st.integers(1, 24)), st.integers(3, 16), st.data())
def test_joining_of_any_size(size, crop, data):
    cut = Windows(crop=crop, stride=data.draw(st.integers(max(1, crop // 3), crop)))
    (ours,) = joined([noise(size)], cut)
    theirs = by_hand(noise(size), cut)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.parametrize(
    ("size", "pad"),
    [
        ((5, 4), (0, 0, 1, 2)),
        ((4, 7), (0, 1, 0, 0)),
        ((6, 6), (1, 1, 1, 1)),
        ((8, 4), (0, 0, 0, 0)),
        ((1, 2), (1, 1, 1, 2)),
    ],
)
def test_what_is_padded_with_zeros(size, pad):
    seen = []
    picture = noise(size)
    joined([picture], Windows(crop=8, stride=8), encode=lambda crops, regions: seen.append(crops) or fake(crops))
    assert len(seen) == 1 and torch.equal(seen[0][0], F.pad(picture, pad))


def test_labels_are_cut_as_the_pictures_are_and_go_on_beyond_the_border():
    seen = []
    labels = torch.arange(7 * 10).view(7, 10)
    cut = Windows(crop=7, stride=3)
    given = {"regions": [labels], "truth": [-labels]}
    list(
        logits_of_windows(
            [noise((7, 10))], cut, PATCH, lambda crops, beside: seen.append(beside) or fake(crops), 8, given
        )
    )
    expected = torch.stack([labels[:, :7], labels[:, 3:]])
    assert len(seen) == 1 and seen[0].keys() == {"regions", "truth"}
    assert torch.equal(seen[0]["regions"][:, :7, :7], expected) and torch.equal(seen[0]["truth"], -seen[0]["regions"])
    assert torch.equal(seen[0]["regions"][:, 7, :7], expected[:, 6]) and seen[0]["regions"].shape == (2, 8, 8)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_pictures_together_equal_one_by_one(batch_size):
    pictures = [noise(size, i) for i, size in enumerate([(16, 24), (24, 16), (7, 30), (16, 24), (40, 16), (5, 5)])]
    cut = Windows(crop=16, stride=8)
    together = joined(pictures, cut, batch_size)
    assert len(together) == len(pictures)
    for picture, ours in zip(pictures, together, strict=True):
        (alone,) = joined([picture], cut, 1)
        assert all(torch.allclose(ours[name], alone[name], atol=1e-6) for name in alone)


def test_maps_of_single_names_are_the_same_bits():
    (by_recipe,) = logits_of_windows([noise((19, 33))], Windows(crop=16, stride=12), PATCH, fake)
    for logits in by_recipe.values():
        assert len(logits) == 4
        assert torch.equal(torch.cat([logits.maps(slice(i, i + 1)) for i in range(4)]), logits.maps())


def test_windows_of_all_pictures_fill_the_batches():
    calls = []
    pictures = [noise((16, 24)), noise((16, 16)), noise((24, 16))]  # 2 + 1 + 2 windows of one shape
    cut = Windows(crop=16, stride=8)
    joined(pictures, cut, 4, lambda crops, regions: calls.append(len(crops)) or fake(crops))
    assert calls == [4, 1]


def test_the_pictures_are_left_as_they_were():
    picture = noise((10, 13))
    before = picture.clone()
    joined([picture], Windows(crop=8, stride=4))
    assert torch.equal(picture, before)
