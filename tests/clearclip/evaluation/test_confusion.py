"""Pixels counted by true class and label, against torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_confusion_matrix

from clearclip.evaluation import confusion
from clearclip.evaluation.protocol import Level
from clearclip.methods.windows import PatchLogits
from clearclip.segmentation.labelling import class_labels


@given(
    size=st.tuples(*[st.integers(1, 40)] * 2),
    classes=st.integers(1, 30),
    ignored=st.sampled_from([255, -1, 0, 99]),
    dtype=st.sampled_from([np.int16, np.int64, np.int32]),
    threshold=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_torchmetrics(size, classes, ignored, dtype, threshold, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, size).astype(dtype)
    label[rng.random(size) < 0.3] = ignored
    scores = torch.randn(classes, 3, 2, generator=torch.Generator().manual_seed(seed)) / 20
    logits, owner = PatchLogits([((0, 0, 24, 16), scores)], (24, 16), 8), torch.arange(classes)
    level = Level(threshold)
    counts = confusion.no_counts(2, classes, owner.device)
    rows = confusion.true_rows(label, classes, ignored)
    for _ in range(2):
        confusion.count(counts[1], logits, rows, owner, level)
    (nothing, twice) = confusion.matrices(counts, classes)
    labels = class_labels(logits, size, owner, *level)
    truth = torch.from_numpy(label.astype(np.int64))
    known = truth != ignored
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    if known.any() and classes > 1:
        expected = multiclass_confusion_matrix(labels[known], truth[known], classes)
    elif classes == 1:
        expected[0, 0] = known.sum()
    assert torch.equal(twice, 2 * expected) and not nothing.any()


@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_any_number_of_matrices(shape):
    counts = torch.arange(12).expand(*shape, 12)
    assert confusion.matrices(counts, 3).shape == (*shape, 3, 3)
    assert confusion.matrices(counts, 3)[..., 2, 1].unique().tolist() == [7]
