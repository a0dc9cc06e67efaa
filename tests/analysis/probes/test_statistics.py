"""Statistics against closed forms, the published formula, and plain loops over images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.probes.statistics import (
    FIGURE_4,
    STATISTICS,
    TOKENS,
    channel_dominance,
    channel_means,
    channel_statistics,
    effective_rank,
    frobenius_norm,
    maximum,
    mean_cosine,
    norm_ratio,
    normalized_entropy,
    outlier_share,
    outlier_tokens,
    token_norms,
    token_softmax,
)

PAPER_SIZE = (785, 768)  # 28 × 28 patches and CLS: n = 602 880
SHARED = [name for name, statistic in STATISTICS.items() if statistic.shared]
SEES_NO_MINUS_INFINITY = ("entropy", "maximum")  # exp(−∞) is 0 and −∞ is no maximum


def normal(*shape, seed=0, std=1.0):
    return std * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def published_entropy(x):
    """The authors' formula: float64, −Σ p·log2 p / log2(n)."""
    p = x.double().flatten().softmax(0)
    return -(p * p.log2()).sum() / math.log2(x.numel())


def safe_entropy(x):
    """The same with 0·log 0 = 0, in float64."""
    return torch.special.entr(x.double().flatten().softmax(0)).sum() / math.log(x.numel())


def finite_maps(low=None, high=None, max_side=9):
    """(tokens, channels) or (images, tokens, channels) of any finite float32, or within [low, high]."""
    values = st.floats(low, high, width=32, allow_nan=False, allow_infinity=False)
    shapes = hnp.array_shapes(min_dims=2, max_dims=3, max_side=max_side)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=values)).map(torch.from_numpy)


# entropy: closed forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -7.5, 1e4, -3e38, 3e38])
def test_entropy_of_a_constant_map_is_1(value):
    torch.testing.assert_close(normalized_entropy(torch.full((197, 768), value)), torch.tensor(1.0), atol=2e-7, rtol=0)


@pytest.mark.parametrize("peak", [200.0, 1e5, 3e38])
def test_entropy_of_one_dominating_entry_is_0(peak):
    x = normal(196, 768)
    x[17, 300] = peak
    assert normalized_entropy(x) == 0


def test_entropy_of_unit_noise():
    # softmax of N(0, 1): logsumexp = ln n + 1/2, Σ p·x = 1
    expected = 1 - 0.5 / math.log(PAPER_SIZE[0] * PAPER_SIZE[1])
    assert round(expected, 3) == 0.962
    assert normalized_entropy(normal(*PAPER_SIZE)).item() == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("peak", "expected"), [(5, 0.962), (10, 0.949), (13.3, 0.651), (15, 0.266), (20, 0.003)])
def test_entropy_of_one_entry_above_unit_noise(peak, expected):
    x = normal(*PAPER_SIZE)
    x[400, 100] = peak
    assert normalized_entropy(x).item() == pytest.approx(expected, abs=2e-3)


def test_entropy_of_one_entry_above_a_constant_map():
    n, peak = 49 * 64, 6.0
    x = torch.zeros(49, 64)
    x[3, 5] = peak
    total = math.exp(peak) + n - 1
    expected = (math.log(total) - peak * math.exp(peak) / total) / math.log(n)
    assert normalized_entropy(x).item() == pytest.approx(expected, abs=3e-7)


@pytest.mark.parametrize(("tokens", "channels"), [(196, 768), (1024, 1024), (4, 16)])
def test_entropy_of_a_channel_shared_by_all_tokens_stops_halfway(tokens, channels):
    x = normal(tokens, channels)
    x[:, channels // 2] = 500.0
    expected = math.log(tokens) / math.log(tokens * channels)
    assert normalized_entropy(x).item() == pytest.approx(expected, abs=2e-7)


def test_entropy_of_a_single_entry_is_that_of_a_constant_map():
    assert normalized_entropy(torch.tensor([[3.0]])) == 1


# entropy: the published float64 formula ------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.01, 0.1, 1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("shape", [(197, 768), (49, 384), (5, 3)])
def test_entropy_in_float32_equals_the_published_formula(shape, std):
    # 1e-7 is the rounding of a float32 near 1; ours rounds a few times on the way
    x = normal(*shape, std=std, seed=shape[0])
    assert abs(normalized_entropy(x).item() - published_entropy(x).item()) < 4e-7


@pytest.mark.parametrize("peak", [0, 5, 10, 12, 13.3, 14, 15, 20, 60, 100])
def test_entropy_in_float32_equals_the_published_formula_under_a_peak(peak):
    # where a peak of 13 and the noise hold half the mass each, the entropy is steepest and rounding is seen most
    x = normal(197, 768)
    x[0, 0] = peak
    assert abs(normalized_entropy(x).item() - published_entropy(x).item()) < 4e-7


@pytest.mark.parametrize("offset", [-1e4, -100.0, 100.0, 1e4])
def test_entropy_in_float32_equals_the_published_formula_far_from_0(offset):
    x = normal(197, 768) + offset
    assert abs(normalized_entropy(x).item() - published_entropy(x).item()) < 4e-7


@pytest.mark.parametrize("std", [0.1, 1.0, 10.0])
def test_entropy_in_float64_equals_the_published_formula_to_rounding(std):
    x = normal(197, 768, std=std).double()
    result = normalized_entropy(x)
    assert result.dtype == torch.float64
    assert abs(result.item() - published_entropy(x).item()) < 1e-13


@pytest.mark.parametrize("peak", [800.0, 1500.0, 1e6])
def test_entropy_where_the_published_formula_is_nan(peak):
    x = normal(49, 64)
    x[7, 7] = peak
    assert published_entropy(x).isnan()
    assert normalized_entropy(x).item() == pytest.approx(safe_entropy(x).item(), abs=5e-7)


def test_entropy_where_the_published_formula_is_nan_and_the_value_is_neither_0_nor_1():
    x = normal(49, 64)
    x[:24] -= 2000.0
    expected = safe_entropy(x).item()
    assert published_entropy(x).isnan() and 0.5 < expected < 0.95
    assert normalized_entropy(x).item() == pytest.approx(expected, abs=5e-7)


@given(finite_maps(-50, 50))
def test_entropy_equals_the_published_formula_for_any_shape(x):
    maps = x.reshape(-1, *x.shape[-2:])
    expected = [1.0 if m.numel() == 1 else published_entropy(m).item() for m in maps]
    np.testing.assert_allclose(normalized_entropy(x).reshape(-1).numpy(), expected, atol=2e-6)


# entropy and maximum: any finite map ---------------------------------------------------------------------------------


@settings(max_examples=300)
@given(finite_maps())
def test_entropy_of_any_finite_map_is_between_0_and_1(x):
    result = normalized_entropy(x)
    assert result.shape == x.shape[:-2]
    assert ((result >= 0) & (result <= 1)).all()  # False for NaN


@settings(max_examples=100)
@given(finite_maps())
def test_entropy_of_any_finite_map_equals_that_of_float64(x):
    maps = x.reshape(-1, *x.shape[-2:])
    expected = [1.0 if m.numel() == 1 else safe_entropy(m).item() for m in maps]
    np.testing.assert_allclose(normalized_entropy(x).reshape(-1).numpy(), expected, atol=2e-6)


@given(finite_maps())
def test_maximum_of_any_finite_map_is_its_largest_entry(x):
    assert np.array_equal(maximum(x).numpy(), x.numpy().max((-2, -1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_entropy_and_maximum_at_the_ends_of_a_type(dtype):
    ends = torch.finfo(dtype)
    x = torch.tensor([[ends.max, ends.min], [ends.min, ends.min]], dtype=dtype)
    assert normalized_entropy(x) == 0 and maximum(x) == ends.max
    assert normalized_entropy(-x).item() == pytest.approx(math.log(3) / math.log(4), abs=2e-7)


@given(finite_maps(-7, 7), st.integers(-1000, 1000))
def test_entropy_does_not_see_a_constant_added_to_a_map(x, constant):
    x = (x * 1024).round() / 1024  # the sum is then exact in float32
    assert torch.equal(normalized_entropy(x), normalized_entropy(x + constant))


@given(finite_maps(-20, 20), st.randoms(use_true_random=False))
def test_entropy_does_not_see_the_order_of_tokens_and_channels(x, random):
    rows, columns = list(range(x.shape[-2])), list(range(x.shape[-1]))
    random.shuffle(rows)
    random.shuffle(columns)
    torch.testing.assert_close(
        normalized_entropy(x[..., rows, :][..., columns]), normalized_entropy(x), atol=1e-6, rtol=0
    )


def test_entropy_leaves_its_input_alone():
    x = normal(2, 5, 7)
    before = x.clone()
    normalized_entropy(x)
    assert torch.equal(x, before)


# every statistic -----------------------------------------------------------------------------------------------------


def naive_entropy(x):
    total, weighted, highest = 0.0, 0.0, x.max()
    for value in x.ravel() - highest:
        total += math.exp(value)
        weighted += math.exp(value) * value
    return (math.log(total) - weighted / total) / math.log(x.size)


def naive_norms(x):
    return np.array([math.sqrt(sum(value * value for value in token)) for token in x])


def naive_outliers(x):
    norms = naive_norms(x)
    return (norms > 3 * sorted(norms)[(len(norms) - 1) // 2]).astype(float)  # the lower median, as torch's


def naive_ratio(x):
    norms = sorted(naive_norms(x))
    return norms[-1] / norms[(len(norms) - 1) // 2]


def naive_means(x):
    return np.array([sum(channel) / len(channel) for channel in x.T])


def naive_sorted_means(x):
    means = naive_means(x)
    return np.array(sorted((means - min(means)) / (max(means) - min(means))))


def naive_dominance(x):
    mass = sorted((sum(abs(channel)) for channel in x.T), reverse=True)
    return sum(mass[:5]) / sum(mass)


def naive_rank(x):
    singular = np.linalg.svd(x, compute_uv=False)
    p = singular / singular.sum()
    return math.exp(-sum(share * math.log(share) for share in p))


def naive_cosine(x):
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    return np.mean([x[i] @ x[j] / (np.linalg.norm(x[i]) * np.linalg.norm(x[j])) for i, j in pairs])


NAIVE = {
    "entropy": naive_entropy,
    "maximum": lambda x: max(x.ravel()),
    "frobenius_norm": lambda x: math.sqrt(sum(x.ravel() ** 2)),
    "channel_mean_sorted": naive_sorted_means,
    "channel_mean": naive_means,
    "outlier_share": lambda x: naive_outliers(x).mean(),
    "norm_ratio": naive_ratio,
    "channel_dominance": naive_dominance,
    "effective_rank": naive_rank,
    "mean_cosine": naive_cosine,
    "token_norm": naive_norms,
    "outlier_rate": naive_outliers,
}


def photographs(seed, images=4, tokens=11, channels=24):
    """Maps with what real ones have: an offset, a strong channel, a strong token."""
    x = normal(images, tokens, channels, seed=seed) + 0.3
    x[:, :, 5] += 4.0
    x[:, 2] *= 9.0
    return x


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_equals_a_loop_over_images(name):
    x = photographs(1)
    expected = np.stack([NAIVE[name](image) for image in x.double().numpy()])
    np.testing.assert_allclose(STATISTICS[name].function(x).numpy(), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_keeps_the_axes_it_declares(name):
    sizes = {"token": 11, "channel": 24}
    expected = (4, *(sizes[dim] for dim in STATISTICS[name].dims))
    assert STATISTICS[name].function(photographs(2)).shape == expected


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_one_image_does_not_depend_on_its_batch(name):
    x = photographs(3)
    whole, alone = STATISTICS[name].function(x), STATISTICS[name].function(x[2])
    torch.testing.assert_close(whole[2], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_half_precision_is_computed_in_float32(name, dtype):
    x = photographs(4).to(dtype)
    result = STATISTICS[name].function(x)
    assert result.dtype == torch.float32
    assert torch.equal(result, STATISTICS[name].function(x.float()))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_float64_is_computed_in_float64(name):
    x = photographs(5).double()
    result = STATISTICS[name].function(x)
    expected = np.stack([NAIVE[name](image) for image in x.numpy()])
    assert result.dtype == torch.float64
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_leaves_its_input_alone(name):
    x = photographs(6)
    before = x.clone()
    STATISTICS[name].function(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_zeros_is_finite(name):
    assert STATISTICS[name].function(torch.zeros(2, 5, 7)).isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_a_non_finite_map_is_not_finite(name, value):
    x = photographs(7)
    x[1, 3, 4] = value
    result = STATISTICS[name].function(x).reshape(4, -1)
    assert result[1].isfinite().all() == (value == -math.inf and name in SEES_NO_MINUS_INFINITY)
    assert result[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("name", SEES_NO_MINUS_INFINITY)
def test_minus_infinity_counts_as_the_lowest_finite_value(name):
    x = photographs(7)
    low = x.clone()
    x[1, 3, 4], low[1, 3, 4] = -math.inf, torch.finfo(torch.float32).min
    assert torch.equal(STATISTICS[name].function(x), STATISTICS[name].function(low))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_of_patches_is_not_that_of_all_tokens(name):
    x = photographs(8)
    x[:, 0] *= 30.0  # a CLS token unlike the patches
    patches, everything = STATISTICS[name].function(x[:, 1:]), STATISTICS[name].function(x)
    assert patches.shape != everything.shape or not torch.allclose(patches, everything)


def shared_values(name, maps, starts):
    """A shared statistic of several maps (B, T, D), the way a run computes it: (B, maps, choices, …)."""
    shared = STATISTICS[name].shared
    summaries = torch.stack([shared.summarise(x, starts) for x in maps], 1)
    return shared.finish(summaries, starts, maps[0].shape[-1])


@settings(max_examples=40)
@given(name=st.sampled_from(SHARED), seed=st.integers(0, 999), prefix=st.integers(1, 9))
def test_shared_values_equal_the_function_for_every_map_and_choice(name, seed, prefix):
    maps = [photographs(seed), 3 * photographs(seed + 1)]
    values = shared_values(name, maps, (prefix, 0))
    for i, x in enumerate(maps):
        for choice, start in enumerate((prefix, 0)):
            expected, got = STATISTICS[name].function(x[:, start:]), values[:, i, choice]
            if STATISTICS[name].dims == ("token",):
                assert got[:, :start].isnan().all()
                got = got[:, start:]
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHARED)
def test_shared_values_of_more_tokens_than_channels(name):
    x, start = photographs(3)[:, :, :4], 2
    values, expected = shared_values(name, [x], (start, 0)), [STATISTICS[name].function(x[:, s:]) for s in (start, 0)]
    for choice, one in enumerate(expected):
        got = values[:, 0, choice]
        torch.testing.assert_close(got[..., -one.shape[-1] :] if one.ndim > 1 else got, one, rtol=1e-5, atol=1e-6)


@given(finite_maps())
def test_shared_cosines_equal_the_function_for_any_finite_map(x):
    maps = x if x.ndim == 3 else x[None]
    values = shared_values("mean_cosine", [maps], (0,))[:, 0, 0]
    assert torch.equal(values, mean_cosine(maps)) and values.isfinite().all()


@given(finite_maps())
def test_shared_entropy_equals_the_function_for_any_finite_map(x):
    values = shared_values("entropy", [x[None]], (0,))
    assert torch.equal(values[0, 0, 0], normalized_entropy(x))


def test_statistics_of_one_summary_share_it():
    names = [["frobenius_norm", "outlier_share", "norm_ratio"], ["channel_mean", "channel_mean_sorted"]]
    for group in names:
        assert len({STATISTICS[name].shared.summarise for name in group}) == 1


def test_the_table_holds_what_the_commands_ask_for():
    assert set(FIGURE_4) | set(TOKENS) == set(STATISTICS) == set(NAIVE)


# token_softmax -------------------------------------------------------------------------------------------------------


def test_token_softmax_is_the_maximum_the_logsumexp_and_the_mean_of_each_token():
    x = normal(3, 6, 10, std=4).double()
    highest, log_sum, energy = token_softmax(x).unbind(-1)
    assert torch.equal(highest, x.amax(-1))
    torch.testing.assert_close(highest + log_sum, x.logsumexp(-1))
    torch.testing.assert_close(highest + energy, (x.softmax(-1) * x).sum(-1))


# channel means -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normalize", "expected"), [("none", [2.0, -1.0, 0.0]), ("max", [1.0, -0.5, 0.0]), ("minmax", [1.0, 0.0, 1 / 3])]
)
def test_channel_means_by_hand(normalize, expected):
    x = torch.tensor([[1.0, -1.0, 2.0], [3.0, -1.0, -2.0]])
    torch.testing.assert_close(channel_means(x, normalize, sort=False), torch.tensor(expected))
    torch.testing.assert_close(channel_means(x, normalize), torch.tensor(sorted(expected)))


@pytest.mark.parametrize(("normalize", "expected"), [("none", -2.5), ("max", -1.0), ("minmax", 0.0)])
def test_channel_means_of_a_constant_map(normalize, expected):
    assert torch.equal(channel_means(torch.full((2, 5, 4), -2.5), normalize), torch.full((2, 4), expected))


@pytest.mark.parametrize("normalize", ["none", "max", "minmax"])
def test_channel_means_of_zeros_are_zeros(normalize):
    assert torch.equal(channel_means(torch.zeros(5, 4), normalize), torch.zeros(4))


def test_channel_means_are_normalised_for_each_image_alone():
    x = photographs(10)
    x[1] *= 100
    means = channel_means(x)
    assert torch.equal(means[:, 0], torch.zeros(4)) and torch.equal(means[:, -1], torch.ones(4))


@given(finite_maps(-(2.0**100), 2.0**100))
def test_channel_means_with_minmax_are_sorted_and_within_0_and_1(x):
    means = channel_means(x)
    assert ((means >= 0) & (means <= 1)).all() and (means.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("normalize", ["none", "max", "minmax"])
def test_channel_statistics_follow_the_normalisation(normalize):
    x, chosen = photographs(11), channel_statistics(normalize)
    assert torch.equal(chosen["channel_mean_sorted"].function(x), channel_means(x, normalize))
    assert torch.equal(chosen["channel_mean"].function(x), channel_means(x, "none", sort=False))


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="minmax, max, none"):
        channel_means(torch.zeros(2, 2), "softmax")
    with pytest.raises(ValueError, match="minmax, max, none"):
        channel_statistics("softmax")


# norms and outliers --------------------------------------------------------------------------------------------------


@given(finite_maps(-(2.0**50), 2.0**50))
def test_frobenius_norm_is_that_of_the_flat_map(x):
    expected = np.sqrt((x.double().numpy() ** 2).sum((-2, -1)))
    np.testing.assert_allclose(frobenius_norm(x).numpy(), expected, rtol=1e-5, atol=1e-18)


@pytest.mark.parametrize("planted", [[], [4], [0, 7, 30]])
def test_planted_outliers_are_found(planted):
    x = normal(2, 49, 64)
    x[0, planted] *= 20
    expected = torch.zeros(2, 49)
    expected[0, planted] = 1
    assert torch.equal(outlier_tokens(x), expected)
    torch.testing.assert_close(outlier_share(x), torch.tensor([len(planted) / 49, 0.0]))


def test_an_outlier_is_a_matter_of_the_factor():
    x = torch.ones(9, 4)
    x[2] *= 3.0
    assert outlier_share(x) == 0  # over three times the median, not three times
    assert outlier_share(x, factor=2.9).item() == pytest.approx(1 / 9)


def test_norm_ratio_is_the_planted_one():
    x = torch.ones(3, 9, 4)
    x[1, 5] *= 40.0
    torch.testing.assert_close(norm_ratio(x), torch.tensor([1.0, 40.0, 1.0]))


def test_norm_ratio_of_zeros_is_1():
    assert norm_ratio(torch.zeros(5, 4)) == 1


def test_token_norms_do_not_mix_tokens():
    assert torch.equal(
        token_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0], [-5.0, 12.0]])), torch.tensor([5.0, 0.0, 13.0])
    )


# channel dominance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 64])
def test_channel_dominance_without_preference(k):
    assert channel_dominance(torch.full((9, 64), -3.0), k).item() == pytest.approx(k / 64)
    assert channel_dominance(torch.zeros(9, 64), k).item() == pytest.approx(k / 64)


def test_channel_dominance_of_k_channels_that_carry_everything():
    x = torch.zeros(9, 64)
    x[:, [3, 60]] = torch.tensor([5.0, -1.0])
    assert channel_dominance(x, 2) == 1
    assert channel_dominance(x, 1).item() == pytest.approx(5 / 6)


def test_channel_dominance_of_fewer_channels_than_k_is_1():
    assert channel_dominance(normal(9, 3), k=5).item() == pytest.approx(1.0)


# effective rank ------------------------------------------------------------------------------------------------------


def rank_by_svd(x):
    singular = torch.linalg.svdvals(x.double())
    return torch.distributions.Categorical(probs=singular).entropy().exp()


@pytest.mark.parametrize("shape", [(197, 64), (20, 384), (31, 31), (2, 300), (300, 2)])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e30])
def test_effective_rank_equals_the_svd_formula(shape, scale):
    x = normal(3, *shape)
    torch.testing.assert_close(effective_rank(x * scale).double(), rank_by_svd(x), rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [(197, 768), (1, 9), (9, 1)])
def test_effective_rank_of_one_direction_is_1(shape):
    # the eigenvalues of x·xᵀ are known to 1e-16 of the largest, so the singular values to 1e-8
    tokens, channels = shape
    x = normal(tokens, 1, seed=1) @ normal(1, channels, seed=2)
    assert effective_rank(x).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_effective_rank_of_the_identity_is_its_size(size):
    assert effective_rank(torch.eye(size) * -4.0).item() == pytest.approx(size, rel=1e-6)


def test_effective_rank_of_zeros_is_1():
    assert effective_rank(torch.zeros(5, 4)) == 1


@settings(max_examples=50)
@given(finite_maps())
def test_effective_rank_lies_between_1_and_the_smaller_side(x):
    result = effective_rank(x)
    assert ((result >= 1 - 1e-6) & (result <= min(x.shape[-2:]) * (1 + 1e-5))).all()


# mean cosine ---------------------------------------------------------------------------------------------------------


def cosine_by_matrix(x):
    unit = torch.nn.functional.normalize(x.double(), dim=-1)
    cosines = unit @ unit.mT
    return cosines[~torch.eye(len(x), dtype=torch.bool)].mean()


@pytest.mark.parametrize("shift", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("shape", [(197, 384), (50, 8), (2, 5)])
def test_mean_cosine_equals_that_of_the_token_by_token_matrix(shape, shift):
    x = normal(*shape) + shift
    assert mean_cosine(x).item() == pytest.approx(cosine_by_matrix(x).item(), abs=2e-6)


def test_mean_cosine_of_one_direction_is_1_and_of_two_opposite_ones_is_minus_1():
    assert mean_cosine(torch.tensor([[1.0, 2.0], [10.0, 20.0], [0.1, 0.2]])).item() == pytest.approx(1.0)
    assert mean_cosine(torch.tensor([[1.0, 2.0], [-10.0, -20.0]])).item() == pytest.approx(-1.0)


def test_mean_cosine_with_zero_tokens():
    assert mean_cosine(torch.zeros(4, 3)) == 0
    assert mean_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])).item() == pytest.approx(1 / 3)


def test_mean_cosine_of_a_single_token_is_1():
    assert torch.equal(mean_cosine(normal(3, 1, 5)), torch.ones(3))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_mean_cosine_does_not_see_the_length_of_a_token(scale):
    x = normal(9, 16)
    scaled = x.clone()
    scaled[4] *= scale
    assert mean_cosine(scaled).item() == pytest.approx(mean_cosine(x).item(), abs=1e-6)
