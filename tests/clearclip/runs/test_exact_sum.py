import math

import numpy as np

from clearclip.runs.exact_sum import ExactSum


def test_exact_sum_does_not_depend_on_order():
    rng = np.random.default_rng(1)
    terms = rng.normal(size=(200, 5)) * 10.0 ** rng.integers(-12, 12, (200, 5))
    totals = []
    for order in (np.arange(200), rng.permutation(200), rng.permutation(200)):
        total = ExactSum.zeros((5,))
        for i in order:
            total.add(terms[i])
        totals.append(total.value())
    np.testing.assert_array_equal(totals[0], [math.fsum(column) for column in terms.T])
    np.testing.assert_array_equal(totals[0], totals[1])
    np.testing.assert_array_equal(totals[0], totals[2])


def test_a_sum_of_parts_is_that_of_all_terms():
    rng = np.random.default_rng(2)
    terms = rng.normal(size=(60, 4)) * 10.0 ** rng.integers(-9, 9, (60, 4))
    sums = [ExactSum.zeros((4,)) for _ in range(3)]
    for i, term in enumerate(terms):
        sums[i % 3].add(term)
    joined = ExactSum.of_parts((part.parts for part in sums), (4,))
    np.testing.assert_array_equal(joined.value(), [math.fsum(column) for column in terms.T])
