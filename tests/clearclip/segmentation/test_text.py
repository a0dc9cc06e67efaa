import math

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from clearclip import load
from clearclip.errors import UserError
from clearclip.segmentation import text
from clearclip.segmentation.text import class_names, default_cache, embed, templates
from clearclip.words import repeated


@pytest.fixture(scope="module")
def random(tiny_clip):
    model = load(tiny_clip, random=True, device="cpu")
    for name, parameter in model.model.named_parameters():
        if parameter.ndim == 1 and name.startswith(("transformer", "ln_final")):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.2)
    return model


def saved(model, path, scale=1.0):
    state = {key: (value * scale).contiguous() for key, value in model.model.state_dict().items()}
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def trained(random, tiny_clip, tmp_path_factory):
    """The same numbers as weights from a file, which are not called random."""
    return load(tiny_clip, checkpoint=saved(random, tmp_path_factory.mktemp("weights") / "a.safetensors"), device="cpu")


# templates -----------------------------------------------------------------------------------------------------------


def test_the_80_imagenet_templates():
    ours = templates()
    assert len(ours) == len(set(ours)) == 80 and templates("imagenet") == ours
    assert [one.replace("{}", "sea cow") for one in ours] == [
        one("sea cow") for one in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    assert ours[0] == "a bad photo of a {}." and "itap of the {}." in ours


def test_the_small_sets():
    assert len(templates("simple")) == 7 and set(templates("simple")) < set(templates())
    assert templates("photo") == ["a photo of a {}."]


def test_own_templates():
    assert templates(["a map of {}.", "{} from above"]) == ["a map of {}.", "{} from above"]
    assert templates(("{}",)) == ["{}"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("imagenett", r"imagenet, simple, photo"),
        ("a photo of a {}.", r"choose from"),
        ([], r"needs \{\}"),
        (["a photo of a {}.", "a map"], r"\['a map'\]"),
        (["{ }"], r"needs \{\}"),
    ],
)
def test_templates_that_cannot_be_used(wrong, message):
    with pytest.raises(UserError, match=message):
        templates(wrong)


# class names ---------------------------------------------------------------------------------------------------------

word = st.text(st.characters(exclude_characters=",|\0", exclude_categories=["Cs"]), min_size=1, max_size=12).map(
    str.strip
)
groups = st.lists(st.lists(word.filter(bool), min_size=1, max_size=4), min_size=1, max_size=6).filter(
    lambda named: not repeated(" ".join(name.split()).lower() for names in named for name in names)
)


@settings(deadline=None, database=None)
@given(groups, st.sampled_from([", ", ",", " ,\t"]), st.sampled_from(["|", " | ", "| "]))
def test_class_names_round_trip(named, comma, bar):
    assert class_names(comma.join(bar.join(names) for names in named)) == named
    assert class_names(named) == named
    assert class_names([bar.join(names) for names in named]) == named


def test_a_comma_in_a_list_belongs_to_the_name():
    assert class_names(["door, open", ["a|b", "c"]]) == [["door, open"], ["a|b", "c"]]


@pytest.mark.parametrize(
    "wrong", ["", " ", ",", "horse,", "horse,,sky", "horse|, sky", "|horse", [], [[]], [""], [["a", " "]]]
)
def test_a_class_without_a_name(wrong):
    with pytest.raises(UserError, match="each class needs a name"):
        class_names(wrong)


@pytest.mark.parametrize(
    "wrong",
    ["sky, horse, sky", "horse|pony, horse", [["a", "b"], ["a", "c"]], "a|b, c|b", "sky|sky", "sky, Sky", "a  b, a b"],
)
def test_a_class_twice(wrong):
    with pytest.raises(UserError, match="each class once"):
        class_names(wrong)


# embeddings ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def by_hand(model, name, prompts):
    """Each prompt alone through the tower, normalised; averaged; normalised again."""
    total = torch.zeros(24, dtype=torch.float64)
    for prompt in prompts:
        one = model.model.encode_text(open_clip.tokenize([prompt % name]))[0].double()
        total += one / one.norm()
    return (total / total.norm()).float()


def test_embedding_against_a_loop(random):
    queries = embed(random, "horse|pony, traffic light", "simple")
    prompts = [one("%s") for one in open_clip.SIMPLE_IMAGENET_TEMPLATES]
    expected = torch.stack([by_hand(random, name, prompts) for name in ("horse", "pony", "traffic light")])
    assert torch.allclose(queries.embeddings, expected, atol=1e-5)
    assert queries.owner.tolist() == [0, 0, 1] and queries.classes == ("horse", "traffic light")


def test_each_prompt_is_normalised_before_the_average(random, monkeypatch):
    """Prompts of very different lengths weigh the same."""
    rows = {"a x": [3.0, 0.0], "b x": [0.0, 400.0]}
    monkeypatch.setattr(type(random), "encode_texts", lambda model, texts: torch.tensor([rows[t] for t in texts]))
    (row,) = embed(random, "x", ["a {}", "b {}"]).embeddings
    assert row.tolist() == pytest.approx([math.sqrt(0.5)] * 2)


def test_more_templates_than_fit_at_once(random, monkeypatch):
    whole = embed(random, "horse", "simple").embeddings
    monkeypatch.setattr("clearclip.segmentation.text.PROMPTS_AT_ONCE", 3)
    assert torch.allclose(embed(random, "horse", "simple").embeddings, whole, atol=1e-6)


def test_embeddings_have_length_1_and_differ(random):
    rows = embed(random, ["horse", "grass", "sky"], "photo").embeddings
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-6)
    assert all((rows[i] - rows[j]).abs().max() > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_braces_in_a_name_are_only_text(random):
    assert torch.allclose(
        embed(random, "a {0} b", "photo").embeddings[0], by_hand(random, "a {0} b", ["a photo of a %s."]), atol=1e-5
    )


def test_a_name_in_two_classes_would_be_the_first_ones(random):
    """Equal scores go to the first class, so that the second would be found nowhere."""
    with pytest.raises(UserError, match="wheel is there twice"):
        embed(random, [["car", "wheel"], ["bike", "wheel"]], "photo")


def test_a_name_is_text():
    with pytest.raises(UserError, match="NUL"):
        class_names(["a\0b"])


def test_a_model_without_a_text_tower(tmp_path):
    with pytest.raises(UserError, match=r"no text tower.*clip_vitb16"):
        embed(load("timm:test_vit", random=True), "horse", "photo", tmp_path)
    assert not list(tmp_path.iterdir())


# the cache -----------------------------------------------------------------------------------------------------------


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def silent(trained, monkeypatch):
    """From the call on, the text tower must not be used."""

    def close():
        def fail(*args):
            raise AssertionError("the text tower was called")

        monkeypatch.setattr(type(trained), "encode_texts", fail)

    return close


def test_a_hit_does_not_call_the_tower(trained, tmp_path, silent):
    first = embed(trained, "horse|pony, sky", "photo", tmp_path)
    assert len(files(tmp_path)) == 3
    silent()
    again = embed(trained, "sky, pony|horse", "photo", tmp_path)
    assert torch.equal(again.embeddings, first.embeddings[[2, 1, 0]])
    with pytest.raises(AssertionError, match="was called"):
        embed(trained, "sky, grass", "photo", tmp_path)


def test_cached_and_fresh_embeddings_are_the_same_bits(trained, tmp_path):
    fresh = embed(trained, "horse", "simple")
    embed(trained, "horse", "simple", tmp_path)
    assert torch.equal(embed(trained, "horse", "simple", tmp_path).embeddings, fresh.embeddings)


def test_only_the_missing_name_is_computed(trained, tmp_path, monkeypatch):
    embed(trained, "horse, sky", "photo", tmp_path)
    asked = []
    original = text._embed_one
    monkeypatch.setattr(text, "_embed_one", lambda model, texts: asked.extend(texts) or original(model, texts))
    embed(trained, "sky, grass, horse", "photo", tmp_path)
    assert asked == ["a photo of a grass."]


def test_other_templates_or_other_weights_are_other_files(random, trained, tiny_clip, tmp_path):
    other = load(tiny_clip, checkpoint=saved(random, tmp_path / "b.safetensors", 1.5), device="cpu")
    half = load(tiny_clip, checkpoint=tmp_path / "b.safetensors", device="cpu", precision="bf16")
    cache, rows = tmp_path / "cache", []
    for count, (model, prompts) in enumerate(
        [(trained, "photo"), (trained, "simple"), (trained, ["{}"]), (other, "photo"), (half, "photo")], 1
    ):
        rows.append(embed(model, "horse", prompts, cache).embeddings)
        assert len(files(cache)) == count
        assert torch.equal(embed(model, "horse", prompts).embeddings, rows[-1])
    assert all(not torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i])


def test_the_order_of_templates_is_part_of_the_content(trained, tmp_path):
    embed(trained, "horse", ["a {}", "b {}"], tmp_path)
    embed(trained, "horse", ["a {}", "b {}"], tmp_path)
    assert len(files(tmp_path)) == 1
    embed(trained, "horse", ["a {}", "c {}"], tmp_path)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"no embedding" * 20],
    ids=["empty", "half", "text"],
)
def test_a_damaged_file_is_computed_again(trained, tmp_path, damage, silent):
    fresh = embed(trained, "horse", "photo", tmp_path).embeddings
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(embed(trained, "horse", "photo", tmp_path).embeddings, fresh)
    silent()
    assert torch.equal(embed(trained, "horse", "photo", tmp_path).embeddings, fresh)


def test_a_file_of_another_kind_is_computed_again(trained, tmp_path):
    fresh = embed(trained, "horse", "photo", tmp_path).embeddings
    (path,) = tmp_path.iterdir()
    save_file({"something": torch.zeros(24)}, path)
    assert torch.equal(embed(trained, "horse", "photo", tmp_path).embeddings, fresh)
    assert list(load_file(path)) == ["embedding"]


def test_random_weights_are_not_kept(random, tmp_path):
    embed(random, "horse", "photo", tmp_path / "cache")
    assert not files(tmp_path)


def test_nothing_is_written_outside_the_cache(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    embed(trained, ["../horse", "/sky", "a\\b", "ünïcode\nname"], "photo", tmp_path / "deep" / "cache")
    embed(trained, "horse", "photo")
    written = files(tmp_path)
    assert written[:2] == ["deep", "deep/cache"] and len(written) == 6
    assert all(name.startswith("deep/cache/") and name.endswith(".safetensors") for name in written[2:])


def test_the_default_cache_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "clearclip" / "text"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "me")
    assert default_cache() == tmp_path / "me" / ".cache" / "clearclip" / "text"
