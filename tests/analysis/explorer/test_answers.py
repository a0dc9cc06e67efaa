"""What the explorer shows, against the library's own functions; without a browser."""

import base64
import io
import re
import threading

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import analysis
import clearclip
from analysis.explorer import answers, board, explain, passes, pictures, segments, takeaway, views
from analysis.explorer.answers import Controls, Visit
from analysis.explorer.shelf import Shelf
from analysis.probes import attention, images, pca, similarity
from clearclip import UserError
from clearclip.methods.windows import Windows
from clearclip.models.block import FEATURES
from clearclip.runs import results

AT = (0.28, 0.47)
HALF = {"side": 64}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    names = ("clip_tiny", "dino_tiny")
    loaders = {name: (lambda name=name: clearclip.load(name, device="cpu")) for name in names}
    return Shelf(loaders, tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def visit():
    return Visit(pictures.examples()["drawn cat"].load(), "drawn cat", AT)


@pytest.fixture(scope="module", params=["clip_tiny", "dino_tiny"])
def seen(request, shelf, visit):
    return shelf.look(request.param, visit.picture)


@pytest.fixture(scope="module")
def photo(seen):
    return images.pictures([seen.picture])


# views -----------------------------------------------------------------------------------------------------------------


def test_one_pass_gives_the_maps_of_a_probe_and_they_add_up(seen):
    image = seen.model.transform(128)(seen.picture)[None]
    with torch.inference_mode(), analysis.Probe(seen.model, keep=True) as probe:
        seen.model(image)
    assert all(torch.equal(seen.maps[site], x[0]) for site, x in probe.results().items())
    for layer in seen.model.layers():
        res, attn, total = (seen.maps[layer, feature] for feature in FEATURES)
        assert torch.equal(res + attn, total)


def test_similarity_is_that_of_the_command(seen, photo):
    dataset = similarity.similarity_maps(seen.model, photo, AT, [2, 6], image_size=128).isel(model=0, image=0)
    for layer in (2, 6):
        for feature in FEATURES:
            expected = dataset.similarity.sel(layer=layer, feature=feature).values
            assert np.allclose(views.similarity(seen, layer, feature, AT), expected, atol=1e-6)


def test_colors_are_those_of_the_command(seen, photo):
    dataset = pca.pca_maps(seen.model, photo, [3], image_size=128)
    for feature in FEATURES:
        expected = analysis.plots.pca_maps.colors(dataset.pca.sel(layer=3, feature=feature).isel(model=0))[0]
        assert np.allclose(views.pca_colors(seen, 3, feature), expected, atol=1e-4)


@pytest.mark.parametrize("head", [0, 2])
def test_attention_is_that_of_the_command(seen, photo, head):
    heads = [head] if head else None
    patch = seen.patch(AT)
    dataset = attention.token_attention(seen.model, photo, [6], heads, attention.AFFINITIES, patch, 128)
    expected = dataset.attention.isel(model=0, image=0, layer=0).mean("head")
    for name, values in views.attention(seen, 6, AT, head).items():
        assert np.allclose(values, expected.sel(affinity=name), atol=1e-6)


def test_curves_and_lengths_are_statistics(seen, photo):
    names = ["entropy", "maximum", "token_norm"]
    dataset = analysis.collect(seen.model, photo, names, image_size=128, progress=False)
    dataset = dataset.sel(tokens="patches").isel(model=0)
    shown = views.curves(seen)
    for name in views.CURVES:
        assert np.allclose(shown[name].values, dataset[name].values, rtol=1e-5)
    lengths = dataset.token_norm.sel(layer=4, feature="X_sum").dropna("token").values
    assert np.allclose(views.token_norm(seen, 4, "X_sum").ravel(), lengths, rtol=1e-5)


# the board -------------------------------------------------------------------------------------------------------------


def shown_pixels(html, kind, name):
    """The pixels of one map in a page."""
    address = re.search(rf'data-kind="{kind}" data-name="{name}"><img [^>]*src="data:image/png;base64,([^"]+)"', html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address[1]))))


def test_the_board_paints_cosines_from_low_to_high(seen):
    html = board.board(seen, 6, AT)
    values = views.similarity(seen, 6, "X_attn", AT)
    pixels = shown_pixels(html, "similarity", "X_attn")
    assert pixels.shape == (16, 16, 3)
    order = np.argsort(values.ravel())
    dark, bright = pixels.reshape(-1, 3)[order[0]], pixels.reshape(-1, 3)[order[-1]]
    assert tuple(dark) == (68, 1, 84) and tuple(bright) == (253, 231, 36)  # the ends of viridis
    assert f"{values.min():.2f} … {values.max():.2f}".replace("-", "−") in html


def test_a_shallow_model_shows_its_last_layer_and_a_small_one_says_so(seen):
    html = board.board(seen, 12, AT)
    assert 'layer <b class="layer">6</b> of 6' in html and "trained on drawn scenes only" in html


def test_random_weights_are_announced():
    model = clearclip.load("dino_tiny", random=True, device="cpu")
    assert "RANDOM WEIGHTS" in board.board(passes.run(model, Image.new("RGB", (64, 64))), 1, AT)


# segment ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(shelf, visit):
    return shelf.look("clip_tiny", visit.picture)


def plain(clip, recipe, **how):
    return clearclip.Segmenter(clip.model, "cat, wood", recipe, windows=Windows.of_side(128), prompts="photo", **how)(
        clip.picture
    )


@pytest.mark.filterwarnings("error:.*was never trained")
@pytest.mark.parametrize("name", ["clip", "clearclip", "gem", "sc_clip", "clearclip+pamr"])
def test_maps_and_scores_are_the_segmenters(shelf, clip, name):
    results = segments.segment(shelf, clip, segments.Question("cat, wood", (name,), prompts="photo"))
    expected = plain(clip, name)
    assert (results[name].labels == expected.labels).all() and (results[name].scores == expected.scores).all()
    table = segments.scores(results, AT)
    for value in expected.scores[:, 35, 60]:
        assert f">{value:.2f}<" in table


def test_a_recipe_of_ones_own_a_background_and_a_second_model(shelf, clip, visit):
    own = segments.own("qq", residual=True, ffn=False, alpha=3.0, beta=0.1)
    question = segments.Question("cat, wood", (own,), background=True, threshold=0.7, prompts="photo")
    result = segments.segment(shelf, clip, question)[own.name]
    assert (result.labels == plain(clip, own, background=True, threshold=0.7).labels).all()
    dino = shelf.look("dino_tiny", visit.picture)
    proxied = segments.segment(shelf, clip, segments.Question("cat, wood", ("proxyclip",), prompts="photo"), dino)
    assert (proxied["proxyclip"].labels == plain(clip, "proxyclip", proxy=dino.model).labels).all()


def test_the_trunk_runs_once_for_everything(shelf, clip, visit):
    runs = []
    handle = clip.model.blocks[0].module.register_forward_hook(lambda *_: runs.append(1))
    try:
        for alpha in (0.5, 4.0):
            controls = Controls("clip_tiny", classes="cat, wood", own=True, alpha=alpha, prompts="photo")
            answers.segment(shelf, visit, controls)
            answers.look(shelf, visit.point_at(alpha / 8, 0.3), controls)
    finally:
        handle.remove()
    assert not runs


def test_a_mistake_is_an_answer_in_words(shelf, visit):
    for controls, words in (
        (Controls("dino_tiny", classes="cat"), "without a text tower"),
        (Controls("clip_tiny", classes=""), "each class needs a name"),
        (Controls("clip_tiny", classes="cat, wood", more="nothing"), "unknown recipe"),
        (Controls("clip_tiny", classes="cat, wood", ticked=()), "tick at least one recipe"),
        (Controls("clip_tiny", classes="cat, wood", ticked=("proxyclip",)), "second model"),
        (Controls("nothing"), "this page offers clip_tiny, dino_tiny"),
        (Controls("clip_tiny", side=100), "not a multiple of 8"),
    ):
        html = answers.segment(shelf, visit, controls)
        assert 'role="alert"' in html and words in html


# explain ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "clearclip"])
def test_the_bars_are_the_margin_between_the_label_and_its_rival(shelf, clip, photo, name):
    question = segments.Question("cat, wood, snow", prompts="photo")
    taken = explain.taken_apart(shelf, clip, question, clearclip.RECIPES[name], None)
    dataset = analysis.attribute(
        clip.model, [clip.picture], "cat, wood, snow", recipe=name, image_size=128, prompts="photo"
    ).isel(model=0, image=0)
    for patch in ((4, 7), (15, 0)):
        why = explain.reason(taken, patch)
        scores = dataset.score.isel(row=patch[0], column=patch[1]).to_series().sort_values(ascending=False)
        assert [why.label, why.rival] == scores.index[:2].tolist()
        assert why.margin == pytest.approx(scores.iloc[0] - scores.iloc[1], abs=1e-6)
        assert why.adds.sum() == pytest.approx(why.margin, abs=1e-5)
        cell = dataset.attribution.isel(row=patch[0], column=patch[1])
        expected = cell.sel(direction=why.label) - cell.sel(direction=why.rival)
        assert np.allclose(why.adds, expected.values, atol=1e-6)


def test_a_head_switched_off_is_the_intervention(shelf, clip):
    off = explain.changes(["layer 6 head 1", "layer 2 head 3"], "layer=6,channel=5,17")
    html = explain.board(shelf, clip, segments.Question("cat, wood", prompts="photo"), "clip", off, AT)
    without = plain(clearclip_with(clip, off), "clip")
    share = (without.labels != plain(clip, "clip").labels).mean()
    assert f"{share:.0%} of the pixels have another label" in html and share > 0.01
    assert html.count('aria-pressed="true"') <= 2 < html.count("data-head=")


def clearclip_with(clip, off):
    """The same picture, seen by the model with interventions."""
    from clearclip.interventions import intervene

    return passes.run(intervene(clip.model, off), clip.picture)


def test_one_class_has_no_rival(shelf, visit):
    assert "at least two classes" in answers.explain(shelf, visit, Controls("clip_tiny", classes="cat"))
    assert "no sum over" in answers.explain(shelf, visit, Controls("clip_tiny", classes="cat, wood", reasons="sc_clip"))


# what is taken away ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", sorted(takeaway.KINDS.keys() - {"entropy"}))  # which is as the maximum
def test_the_lines_of_python_make_the_same_dataset(shelf, visit, what, tmp_path, monkeypatch):
    controls = Controls("clip_tiny", layer=4, head=2, classes="cat, wood", own=True, prompts="photo")
    taken = takeaway.take(shelf, visit, controls, what, tmp_path)
    assert [file.suffix for file in taken.files] == [".pdf", ".png", ".nc", ".png"]
    drawn = tmp_path / taken.files[0].name
    drawn.unlink()
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(taken.code, names)
    assert drawn.is_file()
    kept = results.read(taken.files[2])
    if what == "label maps":
        (by_recipe,) = names["segmenter"].each(["picture_clip_tiny.png"])
        for name, result in by_recipe.items():
            assert (kept.labels.sel(recipe=name).isel(model=0, image=0) == result.labels).all()
    else:
        made = names["dataset"].drop_attrs()  # the source is where the picture's file lies
        xr.testing.assert_equal(made.drop_vars("source"), kept.drop_attrs().drop_vars("source"))


def test_two_models_give_two_sets_of_files(shelf, visit, tmp_path):
    taken = takeaway.take(shelf, visit, Controls("clip_tiny", "dino_tiny"), "similarity", tmp_path)
    assert len(taken.files) == 8 and taken.code.count("clearclip.load(") == 2
    with pytest.raises(UserError, match="no model with a text tower"):
        takeaway.take(shelf, visit, Controls("dino_tiny", classes="cat, wood"), "label maps", tmp_path)


# several people --------------------------------------------------------------------------------------------------------


def test_visitors_at_the_same_time_see_their_own_pictures_only(tmp_path):
    """Probes hook into the shared model: without its lock one visitor's maps would be those of another one's picture."""
    shelf = Shelf({"dino_tiny": lambda: clearclip.load("dino_tiny", device="cpu")}, tmp_path)
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(12)]
    expected = [passes.run(shelf.model("dino_tiny"), photo).maps for photo in photos]
    wrong = []

    def look(start):
        for i in [*range(start, 12), *range(start)]:
            seen = shelf.look("dino_tiny", photos[i], 64)
            views.attention(seen, 6, AT)
            if not all(torch.equal(seen.maps[site], x) for site, x in expected[i].items()):
                wrong.append(i)
            shelf.forget(photos[i])

    threads = [threading.Thread(target=look, args=(3 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_picture_that_is_forgotten_is_gone(shelf):
    photo = Image.new("RGB", (64, 64), "red")
    seen = shelf.look("dino_tiny", photo)
    assert shelf.look("dino_tiny", photo) is seen
    shelf.forget(photo)
    assert shelf.look("dino_tiny", photo) is not seen


def test_models_and_passes_are_bounded(tmp_path, monkeypatch):
    from analysis.explorer import shelf as module

    monkeypatch.setattr(module, "MODELS", 1)
    monkeypatch.setattr(module, "BYTES", 0)
    loaded = []

    def load(name):
        loaded.append(name)
        return clearclip.load(name, device="cpu")

    shelf = Shelf({}, tmp_path, others=load)
    for shade in range(4):
        shelf.look("dino_tiny", Image.new("L", (64, 64), shade).convert("RGB"))
    assert len(shelf._passes) == 2
    shelf.look("clip_tiny", Image.new("RGB", (64, 64)))
    assert list(shelf._models) == ["clip_tiny"] and {key.model for key in shelf._passes} == {"clip_tiny"}
    shelf.model("dino_tiny")
    assert loaded == ["dino_tiny", "clip_tiny", "dino_tiny"]


def test_an_upload_is_read_and_deleted(tmp_path):
    file = tmp_path / "photo.png"
    Image.new("RGB", (300, 200), "blue").save(file)
    assert pictures.uploaded(file).size == (512, 512) and not file.exists()
    file.write_text("no picture")
    with pytest.raises(UserError):
        pictures.uploaded(file)
    assert not file.exists()


# order -----------------------------------------------------------------------------------------------------------------


def test_one_event_shows_everything_and_what_is_clicked_is_taken_in_its_order(shelf):
    """Two events that write the same would race: the older answer could come last, and stay."""
    pytest.importorskip("gradio", reason="gradio is missing: pip install 'clearclip-analysis[app]'")
    from analysis.explorer import page

    events = [each for each in page.build(shelf, pictures.examples(), "drawn cat").fns.values() if each.fn]
    written = {}
    for event in events:
        for part in event.outputs:
            written.setdefault(part, []).append(event)
    assert all(event.concurrency_limit == 1 for event in events if event.name != "take")
    for part, those in written.items():
        lanes = {event.concurrency_id if event.trigger_mode == "multiple" else event for event in those}
        allowed = (
            2 if type(part).__name__ in ("Dropdown", "Markdown") else 1
        )  # which a model that is chosen also changes
        assert len(lanes) <= allowed, (part, those)
    assert sum(event.name == "show" for event in events) == 1
