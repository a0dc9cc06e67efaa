"""Text embeddings from a file, in place of the model's text tower."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from commands import here
from layouts import SHARED
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import clearclip
from clearclip.errors import UserError
from clearclip.segmentation.text import embed
from clearclip.segmentation.text_embeddings import given_queries, text_embeddings

NAMES = ["apple", "grass", "sky"]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


@pytest.fixture(scope="module")
def rows(model):
    """What the model's own text tower makes of the names, (3, E)."""
    return embed(model, NAMES, "photo").embeddings


def saved(content, path):
    torch.save(content, path)
    return path


def npy(array, path):
    np.save(path, array)
    return path


WRITERS = {
    "a.npy": lambda rows, path: np.save(path, rows.numpy()),
    "a.npz": lambda rows, path: np.savez(path, embeddings=rows.numpy(), names=NAMES),
    "classes.npz": lambda rows, path: np.savez(path, text=rows.numpy(), classes=np.array(NAMES)),
    "each.npz": lambda rows, path: np.savez(path, **dict(zip(NAMES, rows.numpy(), strict=True))),
    "plain.safetensors": lambda rows, path: save_file({"embeddings": rows}, path),
    "a.safetensors": lambda rows, path: save_file({"embeddings": rows}, path, {"names": json.dumps(NAMES)}),
    "each.safetensors": lambda rows, path: save_file(
        {n: row.clone() for n, row in zip(NAMES, rows, strict=True)}, path
    ),
    "a.pt": lambda rows, path: torch.save(rows, path),
    "named.pth": lambda rows, path: torch.save({"names": NAMES, "embeddings": rows}, path),
    "each.pth": lambda rows, path: torch.save(dict(zip(NAMES, rows, strict=True)), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_what_the_text_tower_gives(tmp_path, model, rows, name):
    WRITERS[name](rows, tmp_path / name)
    own = clearclip.Segmenter(model, NAMES, prompts="photo")
    given = clearclip.Segmenter(model, NAMES, text=tmp_path / name)
    assert torch.allclose(given.queries.embeddings, own.queries.embeddings, atol=1e-7)
    assert given.queries.classes == own.queries.classes and torch.equal(given.queries.owner, own.queries.owner)
    assert (given(PICTURE).labels == own(PICTURE).labels).all()


def test_rows_are_found_by_name_in_any_order(model, rows):
    given = dict(zip(NAMES, rows * 7, strict=True))
    queries = given_queries(model, "sky|grass, apple", text_embeddings(given))
    assert torch.allclose(queries.embeddings, rows[[2, 1, 0]], atol=1e-6)
    assert queries.owner.tolist() == [0, 0, 1] and queries.classes == ("sky", "apple")


def test_rows_without_names_are_one_for_each_name_or_one_for_each_class(model, rows):
    each = given_queries(model, "apple|grass, sky", text_embeddings(rows))
    assert each.owner.tolist() == [0, 0, 1] and torch.allclose(each.embeddings, rows, atol=1e-6)
    of_class = given_queries(model, "apple|grass, sky", text_embeddings(rows[1:].double().numpy()))
    assert of_class.owner.tolist() == [0, 1] and torch.allclose(of_class.embeddings, rows[1:], atol=1e-6)


def test_rows_get_length_1_whatever_they_have(model, rows):
    scaled = text_embeddings((rows * torch.tensor([[1e-3], [5.0], [100.0]])).half())
    assert torch.allclose(scaled.rows.norm(dim=1), torch.ones(3)) and scaled.rows.dtype == torch.float32


E = 96
WRONG = {
    "integers": (torch.ones(3, E, dtype=torch.int64), r"\(3, 96\) of torch\.int64: .*floating-point"),
    "words": (np.full((3, E), "a"), r"\(3, 96\) of <U1"),
    "complex": (torch.ones(3, E, dtype=torch.complex64), "complex64"),
    "one vector": (torch.ones(E), r"\(96,\) of torch\.float32: text embeddings are a matrix"),
    "nothing": (torch.ones(0, E), r"\(0, 96\)"),
    "sparse": (torch.eye(3).to_sparse(), "matrix"),
    "a list": ([[1.0, 2.0]], "a list"),
    "not finite": (torch.ones(3, E).index_fill(0, torch.tensor(1), torch.nan), "row 1 has a value that is not finite"),
    "length 0": ({"names": NAMES, "a": torch.eye(3)[:, :2]}, r"row 2 \(sky\) has length 0"),
    "names": ({"names": NAMES[:2], "a": torch.eye(3)}, "2 names for 3 rows"),
    "a name twice": ({"names": ["sky", "a", "sky"], "a": torch.eye(3)}, "a name twice: sky"),
    "two matrices": ({"a": torch.eye(3), "b": torch.eye(3)}, "holds a, b: text embeddings are one matrix"),
    "vectors that differ": ({"a": torch.ones(3), "b": torch.ones(4)}, "one vector under each name"),
    "an empty file": ({}, "holds nothing"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_is_not_text_embeddings_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        text_embeddings(content)


def test_they_must_fit_model_and_classes(model, rows):
    for given, classes, message in (
        (rows[:, :5], NAMES, "vectors of length 5, and the text space of clip_tiny has"),
        (rows, "apple, sky", r"3 rows without names, and there are 2 classes with 2 names: apple, sky"),
        (dict(zip(NAMES, rows, strict=True)), "apple, skye", r"no vector for 'skye'\. Closest: sky"),
    ):
        with pytest.raises(UserError, match=message):
            clearclip.Segmenter(model, classes, text=given)
    with pytest.raises(UserError, match=r"4 names: background, apple"):
        clearclip.Segmenter(model, NAMES, text=rows, background=True)


def test_a_model_without_a_text_space_says_so(rows):
    with pytest.raises(UserError, match="no projection"):
        clearclip.Segmenter("dino_tiny", NAMES, text=rows)


class Malicious:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_no_code_of_a_file_runs(tmp_path):
    ran = tmp_path / "ran"
    np.save(tmp_path / "a.npy", np.array([Malicious(ran)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", names=np.array([Malicious(ran)], dtype=object))
    torch.save({"names": NAMES, "a": Malicious(ran)}, tmp_path / "a.pt")
    for path in tmp_path.glob("a.*"):
        with pytest.raises(UserError, match=f"{path.name} cannot be read as text embeddings"):
            text_embeddings(path)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors", "a.pt"])
def test_a_damaged_file_is_refused(tmp_path, rows, name):
    WRITERS[name](rows, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for part in (b"", data[:9], data[: len(data) // 2], b"no vectors" * 9):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            text_embeddings(tmp_path / name)


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(UserError, match=r"none\.npy: no such file"):
        text_embeddings(tmp_path / "none.npy")
    with pytest.raises(UserError, match=r"a\.csv: text embeddings are read from \.npy, \.npz"):
        text_embeddings(tmp_path / "a.csv")


def test_an_image_tower_alone_can_be_asked_with_them(tmp_path, model, rows):
    tower = {f"visual.{key}": value for key, value in model.model.visual.state_dict().items()}
    save_file(tower, tmp_path / "tower.safetensors")
    with pytest.warns(UserWarning, match="does not have the text tower"):
        alone = clearclip.load("clip_tiny", checkpoint=tmp_path / "tower.safetensors", device="cpu")
    own = clearclip.Segmenter(model, NAMES, text=rows)(PICTURE)
    assert (clearclip.Segmenter(alone, NAMES, text=rows)(PICTURE).scores == own.scores).all()
    with pytest.raises(UserError, match="image tower alone"):
        clearclip.Segmenter(alone, NAMES, prompts="photo")


def test_a_result_says_where_they_come_from(tmp_path, model, rows):
    from clearclip.datasets import load
    from clearclip.models.checkpoint import file_digest

    scenes = load("scenes", count=2)
    given = npy(embed(model, scenes.classes, "photo").embeddings.numpy(), tmp_path / "vectors.npy")
    result = clearclip.evaluate(model, scenes, "clearclip", text=given, progress=False)
    own = clearclip.evaluate(model, scenes, "clearclip", prompts="photo", progress=False)
    assert (result.confusion == own.confusion).all()
    assert "prompts" not in result.attrs and result.attrs["text_embeddings"] == "vectors.npy"
    assert result.attrs["text_embeddings_sha256"] == file_digest(given)
    assert own.attrs["prompts"] == "photo" and "text_embeddings" not in own.attrs


# the commands --------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_segment_evaluate_and_maps_take(tmp_path):
    names = ", ".join(clearclip.datasets.load("scenes", count=1).classes)
    words = ("--model", "clip_tiny", "--classes", names, "--prompts", "photo", "--text-cache", "texts", "--output")
    done = here("clearclip.text", *words, "out/vectors.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote out/vectors.safetensors: 26 names" in done.stdout
    with safe_open(tmp_path / "out/vectors.safetensors", "pt") as file:
        about = file.metadata()
    assert about["architecture"] == "zoo:clip_tiny" and about["prompts"] == "photo" and about["weights_sha256"]
    given = ("--text-embeddings", "out/vectors.safetensors", "--device", "cpu", "--limit", 1)
    for module, output, attrs in (
        ("clearclip.segment", "pictures", False),
        ("clearclip.evaluate", "evaluate.nc", True),
        ("analysis.maps", "maps.nc", True),
    ):
        recipe = () if module == "clearclip.segment" else ("--recipe", "clip")
        done = here(module, *given, *recipe, "--output", output, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if attrs:
            assert xr.load_dataset(tmp_path / output).attrs["text_embeddings"] == "vectors.safetensors"
    again = here("clearclip.evaluate", *given, "--recipe", "clip", "--output", "evaluate.nc", cwd=tmp_path)
    assert "holds this already" in again.stdout
    here("clearclip.text", *words[:5], "simple", *words[6:], "out/vectors.safetensors", cwd=tmp_path)
    other = here("clearclip.evaluate", *given, "--recipe", "clip", "--output", "evaluate.nc", cwd=tmp_path)
    assert other.returncode == 0 and "holds this already" not in other.stdout


def test_a_matrix_without_names_gets_them(tmp_path, rows):
    np.save(tmp_path / "published.npy", rows.numpy())
    words = ("--model", "clip_tiny", "--text-embeddings", "published.npy", "--output", "named.safetensors")
    done = here("clearclip.text", "--classes", "apple|grass, sky", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    embeddings = text_embeddings(tmp_path / "named.safetensors")
    assert embeddings.names == ("apple", "grass", "sky") and torch.allclose(embeddings.rows, rows, atol=1e-6)
    assert embeddings.about["text_embeddings"] == "published.npy" and "prompts" not in embeddings.about


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "a.npy"), "name a .safetensors file"),
        (("--classes", ""), "--classes is empty"),
        (("--classes", "a, , b"), "each class needs a name"),
        (("--model", "clip_tiny", "dino_tiny"), "2 models are named"),
        (("--model", "dino_tiny"), "no text tower"),
        (("--text-embeddings", "none.npy"), "no such file"),
        (("--text-embeddings", "none.npy", "--prompts", "photo"), "drop one of them"),
    ],
)
def test_mistakes(tmp_path, words, message):
    done = here("clearclip.text", "--classes", "a, b", "--model", "clip_tiny", *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and not list(tmp_path.rglob("*.safetensors"))


def test_vectors_of_another_model_or_of_random_weights_are_noted(tmp_path, model):
    words = ("--classes", "apple, sky", "--model", "open_clip:ViT-S-32-alt", "--random", "--prompts", "photo")
    done = here("clearclip.text", *words, "--output", "a.safetensors", cwd=tmp_path)
    assert done.returncode == 0 and "RANDOM WEIGHTS" in done.stdout
    other = text_embeddings(tmp_path / "a.safetensors")
    same_width = text_embeddings(other.rows[:, : model.project(torch.zeros(1, 1, model.width)).shape[-1]])
    given = type(other)(same_width.rows, other.names, other.source, other.sha256, other.about)
    with pytest.warns(UserWarning, match=r"was made with open_clip:ViT-S-32-alt.*clip_tiny is zoo:clip_tiny"):
        given_queries(model, ["sky"], given)
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        given_queries(model, ["sky"], given)


# a matrix of the real model ------------------------------------------------------------------------------------------


def test_the_published_matrix_of_openais_vit_b_16(build):
    """DeCLIP's vectors of the 133 categories of COCO panoptic, in half precision, for a model of the same text space."""
    file = SHARED / "clip_reference" / "coco_panoptic_text_vitb16.npy"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    embeddings = text_embeddings(file)
    assert embeddings.rows.shape == (133, 512) and embeddings.names is None
    assert torch.allclose(embeddings.rows.norm(dim=1), torch.ones(133))
    published = torch.from_numpy(np.load(file)).float()
    assert torch.allclose(embeddings.rows, published, atol=1e-3) and not torch.equal(embeddings.rows, published)
    nearest = (embeddings.rows @ embeddings.rows.T).fill_diagonal_(-1)
    assert nearest.max() < 1 and nearest[17].argmax() in range(13, 23)  # its horse is nearest to another animal
    queries = given_queries(build("clip_vitb16"), [f"category {i}" for i in range(133)], embeddings)
    assert torch.equal(queries.embeddings, embeddings.rows) and queries.owner.tolist() == list(range(133))
