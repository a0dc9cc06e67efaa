"""TextSpan from two moments against plain loops over the contributions themselves, and where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.textspan.greedy import Moments, text_span


def moments(x):
    return Moments(x.mean(0), x.T @ x / len(x))


def plain(contributions, texts, count):
    """Algorithm 1 of arXiv 2310.05916 as it is printed, in float64: C (N, E) and R (M, E) as matrices."""
    C, R = contributions.copy(), texts.copy()
    _, sizes, basis = np.linalg.svd(C, full_matrices=False)
    basis = basis[sizes > 1e-9 * sizes[0]]
    R = np.stack([sum((r @ b) * b for b in basis) for r in R])  # to the span of the rows of C
    whole = ((C - C.mean(0)) ** 2).sum()
    chosen, shares = [], []
    for _ in range(count):
        variances = [np.var(C @ r) for r in R]
        best = int(np.argmax(variances))
        r = R[best].copy()
        C = np.stack([c - (c @ r) / (r @ r) * r for c in C])
        R = np.stack([other - (other @ r) / (r @ r) * r for other in R])
        chosen.append(best)
        shares.append(1 - ((C - C.mean(0)) ** 2).sum() / whole)
    return chosen, shares


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), N=st.integers(8, 40), C=st.integers(2, 6), E=st.integers(6, 12), M=st.integers(6, 30),
    offset=st.sampled_from([0.0, 1.0, 30.0]),
)  # fmt: skip
def test_from_moments_as_from_the_matrix_itself(seed, N, C, E, M, offset):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, C)) * rng.uniform(0.2, 3, C) + offset * rng.standard_normal(C)
    toward, texts = rng.standard_normal((C, E)), unit(rng.standard_normal((M, E)))
    count = min(C, M, N - 1) - 1
    span = text_span(moments(x), toward, texts, count)
    chosen, shares = plain(x @ toward, texts, count)
    assert span.texts == chosen
    np.testing.assert_allclose(span.shares, shares, atol=1e-7)
    assert span.variance == pytest.approx((x @ toward).var(0).sum())


def test_contributions_made_of_known_texts_return_them_by_their_weight():
    rng = np.random.default_rng(0)
    texts = unit(rng.standard_normal((40, 64)))
    texts[:5] = np.linalg.qr(texts[:5].T)[0].T  # orthogonal ones
    weights = rng.standard_normal((500, 5)) * [1, 5, 2, 4, 3]
    x = weights @ texts[:5]
    span = text_span(moments(x), np.eye(64), texts, 8)
    assert span.texts == [1, 3, 4, 2, 0] and span.shares[-1] == pytest.approx(1)  # then nothing is left
    spread = x.var(0).sum()
    assert span.shares[0] >= 0.9 * weights[:, 1].var() / spread


def test_a_constant_shift_is_no_variance():
    rng = np.random.default_rng(1)
    x, texts = rng.standard_normal((50, 4)) * [3, 2, 1, 0.5], np.eye(4)
    shifted = text_span(moments(x + np.array([0, 0, 0, 1e3])), np.eye(4), texts, 3)
    alone = text_span(moments(x), np.eye(4), texts, 3)
    assert shifted.texts == alone.texts == [0, 1, 2]
    np.testing.assert_allclose(shifted.shares, alone.shares, atol=1e-6)


def test_a_head_that_adds_the_same_to_every_token_or_nothing_has_no_text():
    for x in (np.zeros((9, 3)), np.tile([0.1, 0.7, -1.3], (9, 1))):
        span = text_span(moments(x), np.eye(3), np.eye(3), 2)
        assert span.texts == [] and span.shares == [] and span.variance == 0


def test_texts_outside_the_span_are_never_chosen():
    x = np.random.default_rng(2).standard_normal((30, 2))
    span = text_span(moments(x), np.eye(2, 5), np.eye(5), 5)
    assert sorted(span.texts) == [0, 1] and span.shares[-1] == pytest.approx(1)
