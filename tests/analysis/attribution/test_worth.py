"""The worth of components: AUC against scikit-learn's, counts against plain loops, and the commands as a user runs them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_auc_score

import analysis
import clearclip
from analysis.attribution.directions import of_channels, of_prototypes, of_vectors
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from analysis.attribution.run import merge, report, tidy, worth
from analysis.attribution.worth import area_under_curve, of_classes
from analysis.prototypes.nearest import class_shares
from analysis.prototypes.pictures import prepared
from clearclip.datasets import load
from clearclip.errors import UserError
from clearclip.methods.recipes import RECIPES
from clearclip.methods.windows import Windows
from clearclip.segmentation.text import embed
from tests.commands import here


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 3), st.integers(2, 12)), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])
    ),
    st.data(),
)
def test_the_area_is_scikit_learns(values, data):
    count = values.shape[1]
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    if positive.all() or not positive.any():
        return
    expected = [roc_auc_score(positive, row) for row in values]
    assert np.allclose(area_under_curve(values, positive), expected)


@pytest.fixture(scope="module")
def clip():
    return clearclip.load("clip_tiny")


def test_auc_and_miou_by_plain_loops(clip):
    data = load("scenes", count=3)
    result = worth(clip, data, progress=False, batch_size=2).squeeze(["model", "dataset"])
    queries = embed(clip, data.classes)
    readout = Readout(clip, queries.embeddings)
    C, areas, whole = len(data.classes), {}, np.zeros((len(data.classes),) * 2, int)
    alone, without = {}, {}
    for i in range(3):
        for images, labels in prepared(clip, Windows.of(clip), [data[i]]):
            parts = decompose(readout, images, RECIPES["clip"])
            shares = class_shares(labels[0], parts.grid, C)
            truth = [int(s.argmax()) if s.max() >= 0.5 else -1 for s in shares.T]
            kept = [n for n, c in enumerate(truth) if c >= 0]
            total = parts.values[0].sum(1)
            for n in kept:
                whole[truth[n], int(total[n].argmax())] += 1
            for k, component in enumerate(parts.components):
                part = parts.values[0, :, k]
                for maps, counts in ((part, alone), (total - part, without)):
                    matrix = counts.setdefault(str(component), np.zeros((C, C), int))
                    for n in kept:
                        matrix[truth[n], int(maps[n].argmax())] += 1
                for c in set(truth) - {-1}:
                    wanted = [truth[n] == c for n in kept]
                    if not all(wanted):
                        areas.setdefault((str(component), c), []).append(roc_auc_score(wanted, part[kept, c]))

    def miou(matrix):
        ious = []
        for c in range(C):
            union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
            if union:
                ious.append(100 * matrix[c, c] / union)
        return np.mean(ious)

    assert np.isclose(result.miou_whole, miou(whole))
    for name in result.component.values.tolist():
        assert np.isclose(result.miou.sel(component=name), miou(alone[name]), atol=0.5)
        assert np.isclose(result.miou_without.sel(component=name), miou(without[name]), atol=0.5)
        for c in range(C):
            own = result.auc.sel(component=name).values[c]
            expected = areas.get((name, c))
            assert np.isnan(own) if expected is None else np.isclose(own, np.mean(expected), atol=1e-5)


def test_a_class_with_several_names_takes_the_best_at_each_patch():
    values = torch.tensor([[[1.0, 5.0, 2.0], [1.0, 0.0, 3.0]], [[4.0, 0.0, 1.0], [4.0, 1.0, 1.0]]])  # (N, K, T)
    maps = of_classes(values, values.sum(1), torch.tensor([0, 0, 1]))
    assert maps.tolist() == [[[5.0, 2.0], [0.0, 3.0]], [[4.0, 1.0], [4.0, 1.0]]]


def test_models_without_text_find_classes_by_prototypes():
    data = load("scenes", count=4)
    result = worth("dino_tiny", data, progress=False)
    assert result.directions.item() == "prototypes" and int(result.images.item()) == 2
    other = worth("dino_tiny", load("scenes", count=3), progress=False)
    assert result.data_sha256.item() != other.data_sha256.item()
    with pytest.raises(UserError, match="at least two"):
        worth("dino_tiny", load("scenes", count=1), progress=False)


def test_prototypes_are_the_mean_unit_features_of_their_classes(clip):
    data = load("scenes", count=2)
    samples = [data[i] for i in range(2)]
    found = of_prototypes(clip, data, samples)
    total = {}
    for sample in samples:
        for images, labels in prepared(clip, Windows.of(clip), [sample]):
            with torch.inference_mode():
                x = clip.project(clip.last_tokens(images))[0, 1:]
            grid = clip.grid((images.shape[-2], images.shape[-1]))
            for c, shares in enumerate(class_shares(labels[0], grid, len(data.classes))):
                for share, row in zip(shares.tolist(), x, strict=True):
                    total[c] = total.get(c, 0) + share * row / row.norm()
    for name, vector in zip(found.names, found.vectors, strict=True):
        expected = total[data.classes.index(name)]
        assert torch.cosine_similarity(vector, expected, dim=0) > 1 - 1e-5


def test_attribute_adds_up_and_names_its_parts(clip):
    result = analysis.attribute(clip, "scenes", "house, rocket", limit=2, recipe="clip")
    assert float(abs(result.attribution.sum("component") - result.score).max()) < 1e-5
    assert {"embedding", "layer 1 head 1", "layer 6 FFN", "final norm"} <= set(result.component.values.tolist())
    clear = analysis.attribute(clip, "scenes", "house", limit=1, recipe="clearclip")
    assert set(clear.kind.values.tolist()) == {"head", "bias", "norm"} and set(clear.layer.values.tolist()) == {0, 6}
    vectors = analysis.attribute(
        "dino_tiny", "scenes", directions=of_channels(clearclip.load("dino_tiny"), [3, 5]), limit=1
    )
    assert vectors.direction.values.tolist() == ["channel 3", "channel 5"]


@pytest.mark.parametrize("how", [{}, {"texts": "a", "directions": "b"}])
def test_scores_of_nothing_are_refused(clip, how):
    with pytest.raises(UserError, match="scores of what"):
        analysis.attribute(clip, "scenes", limit=1, **how)


def test_wrong_vectors_are_refused(clip):
    with pytest.raises(UserError, match="channels 0 …"):
        of_channels(clip, [9999])
    with pytest.raises(UserError, match="all of one length"):
        of_vectors(clip, {"a": [1.0], "b": [1.0, 2.0]})


def test_several_models_and_their_tables(clip):
    data = load("scenes", count=2)
    both = merge([worth(model, data, progress=False) for model in (clip, "dino_tiny")])
    assert both.sizes["model"] == 2 and set(both.kind.values.tolist()) == {"embedding", "head", "ffn", "bias", "norm"}
    assert "components that find class house best" in report(both.isel(model=[0]), "house") or "no picture" in report(
        both
    )
    with pytest.raises(UserError, match="no picture holds it"):
        report(both, "elephant")
    rows = tidy(both)
    assert set(rows["class"]) > {"mean"} and rows.auc.notna().all()


def test_components_as_a_user_runs_it(tmp_path):
    run = here(
        "analysis.components", "--limit", "4", "--model", "clip_tiny", "--ablate", "layer=5,head=1", cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert "without them the map gets better" in run.stdout and "clip_tiny layer=5,head=1" in run.stdout
    assert (tmp_path / "results/components.png").is_file() and (tmp_path / "results/components.csv").is_file()


def test_attribution_as_a_user_runs_it(tmp_path):
    run = here("analysis.attribution", "--recipe", "clearclip", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "house in scene 0 is drawn by layer 6 head" in run.stdout
    assert (tmp_path / "results/attribution.png").is_file()
    wrong = here("analysis.attribution", "--model", "dino_tiny", cwd=tmp_path)
    assert wrong.returncode == 2 and "--prototypes DATASET" in wrong.stderr
