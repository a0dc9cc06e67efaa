"""Texts of heads: against the sums of parts and plain matrices, in shares, and as a command."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from commands import here

import clearclip
from analysis import plots
from analysis.attribution.parts import decompose
from analysis.attribution.readout import Readout
from analysis.probes.images import pictures
from analysis.readings.textspan import reading
from analysis.textspan import table
from analysis.textspan.moments import HeadMoments
from analysis.textspan.pool import pool
from analysis.textspan.run import measure
from clearclip.errors import UserError
from clearclip.interventions import Heads, intervene
from clearclip.methods.recipes import RECIPES
from clearclip.runs.processes import Processes
from clearclip.runs.stream import join, stream_share
from clearclip.segmentation.text import embed
from clearclip.zoo import unknown_words
from tests.analysis.textspan.test_greedy import plain

TEXTS = pool("scenes").texts[::8]
QUICK = {"texts": TEXTS, "limit": 6, "progress": False, "batch_size": 4}


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


@pytest.fixture(scope="module")
def whole(model):
    return measure(model, "scenes", layers=[2, 6], count=3, **QUICK)


def as_matrix(model, photos, layer, head, tokens):
    """What one head adds to the unit features along all axes of the text space, (N, E), as attribution takes them apart."""
    view = model
    if tokens == "cls":  # attribution looks at patches: CLS is one of them where no prefix is counted
        view = clearclip.load("clip_tiny", device="cpu")
        view.__class__ = type("WithoutPrefix", (type(model),), {"prefix_tokens": 0})
    images = torch.stack([model.transform()(photo.read()) for photo in photos])
    parts = decompose(Readout(view, torch.eye(64)), images, RECIPES["clip"])
    values = parts.values[:, :, parts.components.index(("head", layer, head))].double().numpy()  # (B, L, E)
    return values[:, 0] if tokens == "cls" else values.reshape(-1, 64)


@pytest.mark.parametrize("tokens", ["cls", "patches"])
def test_texts_and_shares_are_those_of_the_matrix_of_contributions(model, tokens):
    photos, count = pictures("scenes", 12), 4
    got = measure(model, photos, TEXTS, layers=[2, 6], heads=[1, 3], tokens=tokens, count=count, progress=False)
    embeddings = embed(model, [[text] for text in TEXTS], ["{}"]).embeddings.double().numpy()
    for layer, head in ((2, 1), (6, 3)):
        x = as_matrix(model, photos, layer, head, tokens)
        one = got.sel(model="clip_tiny", layer=layer, head=head)
        assert float(one.variance) == pytest.approx(x.var(0).sum(), rel=1e-4)
        _, _, basis = np.linalg.svd(x, full_matrices=False)
        basis = basis[: min(32, len(x))]  # the channels of a head; below is the rounding of float32
        chosen, shares = plain(x @ basis.T, embeddings @ basis.T, count)
        assert one.text.values.tolist() == [TEXTS[i] for i in chosen]
        np.testing.assert_allclose(one.variance_share, shares, atol=1e-4)


def test_shares_of_processes_give_the_same_bits(model):
    photos = pictures("scenes", 6)
    readout = Readout(model, torch.eye(64))
    measurement = HeadMoments(readout, photos, (5, 6), (1, 2, 3), "patches", None, 2)
    alone, several = (
        join([stream_share(measurement, Processes(i, count), progress=False) for i in range(count)], measurement.finish)
        for count in (1, 3)
    )
    for name in ("mean", "second"):
        np.testing.assert_array_equal(alone[name], several[name])
    assert alone.attrs["image_list_sha256"] == several.attrs["image_list_sha256"]


def test_an_interrupted_run_continues_only_with_the_same_tokens(model, tmp_path):
    file = tmp_path / "unfinished.nc"
    measure(model, "scenes", layers=[6], unfinished=file, **QUICK)
    assert file.is_file()
    with pytest.raises(UserError, match="other tokens"):
        measure(model, "scenes", layers=[6], tokens="patches", unfinished=file, **QUICK)


def test_every_word_of_the_pool_for_the_small_model_is_known_to_it():
    texts = pool("scenes").texts
    assert len(set(texts)) == len(texts) > 100 and not unknown_words(texts)
    general = [text.lower() for text in pool("general").texts]
    assert 150 <= len(set(general)) == len(general)


def test_a_pool_of_ones_own(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# colors\nred\n\n a blue car \n", "utf-8")
    assert pool(str(file)).texts == ("red", "a blue car")
    file.write_text("red\nRed\n")
    with pytest.raises(UserError, match="red is there twice"):
        pool(str(file))
    file.write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no text"):
        pool(str(file))
    with pytest.raises(UserError, match="choose general or scenes"):
        pool("colours")


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("dino_tiny", {}, "has no text tower"),
        ("clip_tiny", {"heads": [4]}, "heads 1 … 3"),
        ("clip_tiny", {"heads": [2, 2]}, "once is enough"),
        ("clip_tiny", {"count": 0}, "at least 1"),
        ("clip_tiny", {"tokens": "all"}, "cls or patches"),
        ("clip_tiny", {"layers": [7]}, "1 … 6"),
    ],
)
def test_what_cannot_be_done_is_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        measure(clearclip.load(name, device="cpu"), "scenes", **QUICK | options)


def test_a_head_that_is_silent_has_no_texts(model):
    got = measure(intervene(model, [Heads(6, (2,))]), "scenes", layers=[6], count=2, **QUICK)
    assert got.text.sel(head=2).values.ravel().tolist() == ["", ""] and got.variance_share.sel(head=2).isnull().all()
    assert got.variance.sel(head=2) == 0 and (got.variance.sel(head=1) > 0).all()
    assert "adds the same to every token" in table.report(got)
    assert plots.textspan(got).axes and plots.textspan_share(got).axes
    assert "head 2 of layer 6" not in reading(got)[0]


def test_models_are_joined_and_what_one_lacks_is_empty(whole):
    other = whole.assign_coords(model=["other"]).isel(layer=[0], head=[0])
    both = table.merge([whole, other])
    assert both.text.sel(model="other", layer=6).values.ravel().tolist() == [""] * 9
    assert both.variance.sel(model="other").notnull().sum() == 1
    assert [panel.variance.shape for panel in table.panels(both)] == [(2, 3), (1, 1)]
    assert len(table.tidy(both)) == 18 + 3
    assert len(plots.textspan(both).axes) == 2
    with pytest.raises(UserError, match="did not see the same data"):
        table.merge([whole, other.assign_attrs(image_list_sha256="another")])


def test_command(tmp_path):
    (tmp_path / "mine.txt").write_text("a red ball\nsand\nwater\na tree\nsky\n")
    words = ("--limit", "6", "--layers", "6", "--count", "2", "--texts", "mine.txt", "--text-cache", "texts")
    done = here("analysis.textspan", *words, "--tokens", "patches", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "clip_tiny, all patches of 6 pictures, 5 texts (mine.txt): all 3 heads" in done.stdout
    written = "results/textspan.nc, results/textspan.csv, results/textspan_texts.png, results/textspan_share.png"
    assert f"wrote {written}" in done.stdout and "is described best" in done.stdout
    dataset = table.read(tmp_path / "results" / "textspan.nc")
    assert dataset.attrs["format"] == "clearclip texts of heads 1" and dataset.attrs["tokens"] == "patches"
    assert set(dataset.text.values.ravel()) <= {"a red ball", "sand", "water", "a tree", "sky"}
    assert (dataset.variance_share.diff("rank") >= 0).all() and (dataset.variance_share <= 1).all()
    assert len(pd.read_csv(tmp_path / "results" / "textspan.csv")) == 6
    assert json.loads(dataset.attrs["options"])["tokens"] == "patches"
    again = here("analysis.textspan", *words, "--tokens", "patches", cwd=tmp_path)
    assert "holds this already" in again.stdout
    other = here("analysis.textspan", *words, cwd=tmp_path)  # cls is another measurement
    assert other.returncode == 0 and "the CLS token of 6 pictures" in other.stdout
    file = ("--data", "results/textspan.nc", "--figure", "again.pdf")
    assert here("analysis.textspan", *file, cwd=tmp_path).returncode == 0
    assert (tmp_path / "again_texts.pdf").is_file() and (tmp_path / "again_share.pdf").is_file()
    refused = here("analysis.textspan", *file, "--tokens", "patches", cwd=tmp_path)
    assert refused.returncode == 2 and "goes without --tokens" in refused.stderr
    dino = here("analysis.textspan", "--model", "dino_tiny", cwd=tmp_path)
    assert dino.returncode == 2 and "take a CLIP" in dino.stderr
