"""Pixel-adaptive refinement against a loop over pixels in float64."""

import itertools

import pytest
import torch

from clearclip.methods.pamr import pamr_weights, refine


def neighbors(image, row, column, dilations):
    """The values (3,) at the eight places around a pixel at every dilation, or at the border's pixel nearest to them."""
    H, W = image.shape[-2:]
    return [
        image[:, min(max(row + y * d, 0), H - 1), min(max(column + x * d, 0), W - 1)]
        for d in dilations
        for y, x in itertools.product((-1, 0, 1), repeat=2)
        if (y, x) != (0, 0)
    ]


def loop(scores, image, dilations, steps):
    """One image (3, H, W), its scores (Q, H, W)."""
    scores, image = scores.double(), image.double()
    H, W = image.shape[-2:]
    for _ in range(steps):
        refined = torch.empty_like(scores)
        for row, column in itertools.product(range(H), range(W)):
            center, around = image[:, row, column], neighbors(image, row, column, dilations)
            deviation = torch.stack([*around, *[center] * len(dilations)]).std(0)
            unlike = torch.stack([((center - x).abs() / (1e-8 + 0.1 * deviation)).mean() for x in around])
            weights = (-unlike).softmax(0)
            others = torch.stack(neighbors(scores, row, column, dilations), 1)
            refined[:, row, column] = others @ weights
        scores = refined
    return scores.float()


@pytest.mark.parametrize("size", [(9, 9), (7, 12)], ids=["square", "oblong"])
@pytest.mark.parametrize("dilations", [(1,), (2, 8)], ids=str)
def test_refined_scores_against_the_loop(size, dilations):
    generator = torch.Generator().manual_seed(0)
    images, scores = torch.randn(2, 3, *size, generator=generator), torch.randn(2, 4, *size, generator=generator)
    got = refine(scores, pamr_weights(images, dilations), steps=3)
    expected = torch.stack([loop(*pair, dilations, 3) for pair in zip(scores, images, strict=True)])
    assert torch.allclose(got, expected, atol=1e-5) and not torch.allclose(got, scores, atol=0.1)


def test_small_scores_are_resized_to_the_image_corner_on_corner():
    scores = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    got = refine(scores, pamr_weights(torch.zeros(1, 3, 9, 13)), steps=0)
    assert torch.allclose(got[..., ::4, ::4], scores, atol=1e-6)


def test_a_constant_stays_and_edges_of_color_hold_scores_back():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    weights = pamr_weights(image, (1, 2))
    assert torch.allclose(weights.values.sum(1), torch.ones(1, 8, 8))
    assert torch.allclose(refine(torch.ones(1, 1, 8, 8), weights), torch.ones(1, 1, 8, 8), atol=1e-5)
    sides = refine(image[:, :1], weights)
    assert sides[..., :4].max() < 0.1 and sides[..., 4:].min() > 0.9
