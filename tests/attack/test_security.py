"""What SECURITY.md promises: one hostile example of everything that is read from strangers."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from material import labelled, picture_bytes, pictures
from PIL import Image
from scipy.io import savemat
from sweeps import sweep
from test_bad_checkpoints import Hostile
from test_bad_pictures import bomb

import analysis
from analysis.explorer import answers
from analysis.explorer.answers import Controls, Visit
from analysis.explorer.pictures import MOST_PIXELS, uploaded
from analysis.explorer.shelf import Shelf
from analysis.sweeps import recipe_lists
from clearclip import datasets
from clearclip.datasets.context import read_mat
from clearclip.datasets.labels import BadLabel, read_label
from clearclip.errors import UserError
from clearclip.models.checkpoint import read_state_dict
from clearclip.models.load import load
from clearclip.pictures import BadImage, find_images, pixel_limit, read_image
from clearclip.runs import results
from clearclip.segmentation.text import class_names, templates
from figures.catalogue import ENTRIES
from figures.index import Drawn, page

SCRIPT = "<script>alert(1)</script>"
POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
(owned) (w) file closefile
%%EOF
"""


@pytest.fixture(autouse=True)
def nothing_is_owned(tmp_path, monkeypatch):
    """Hostile files try to make `owned` in the current folder."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("owned*"))


def torchscript(path: Path, content: object) -> Path:
    """An archive that looks like TorchScript's and whose pickle is hostile."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(content, 2))
        archive.writestr("a/constants.pkl", pickle.dumps(Hostile(), 2))
        archive.writestr("a/code/__torch__.py", "import os\nos.mkdir('owned')\n")
        archive.writestr("a/version", "3\n")
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(pickle.dumps(Hostile())),
        lambda path: path.write_bytes(pickle.dumps({"state_dict": {"weight": Hostile()}})),
        lambda path: torch.save({"weight": torch.zeros(1), "more": Hostile()}, path),
        lambda path: torchscript(path, Hostile()),
        lambda path: torchscript(path, {"weight": Hostile()}),
    ],
    ids=["pickle", "pickle in a dictionary", "torch.save", "TorchScript", "TorchScript in a dictionary"],
)
@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.safetensors", "weights"])
def test_weights_never_run_code(write, name):
    write(Path(name))
    with pytest.raises(UserError, match=re.escape(name)):
        read_state_dict(Path(name))


def test_a_torchscript_archive_is_not_executed():
    class Owner(torch.nn.Module):
        def forward(self, x):
            return x

    torch.jit.save(torch.jit.script(Owner()), "script.pt")
    try:
        state = read_state_dict(Path("script.pt"))
    except UserError as error:
        assert "script.pt" in str(error)
    else:
        assert not state


def test_a_header_that_lies_takes_no_memory():
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    Path("lies.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"lies\.safetensors"):
        read_state_dict(Path("lies.safetensors"))


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_picture_bomb_is_refused_before_it_is_decoded(size):
    Path("bomb.png").write_bytes(bomb(*size))
    with pytest.raises(BadImage, match=r"bomb\.png"):
        read_image("bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps", "a"])
def test_no_picture_starts_a_program(name, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: Path("owned").mkdir())
    Path(name).write_bytes(POSTSCRIPT)
    with pytest.raises(BadImage):
        read_image(name)
    with pytest.raises(BadLabel):
        read_label(Path(name))


def test_pipes_and_devices_are_not_waited_for():
    os.mkfifo("pipe.png")
    Path("device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        with pytest.raises(BadImage, match="not a regular file"):
            read_image(name)


def test_linked_folders_are_not_followed():
    pictures(Path("outside"), 1)
    pictures(Path("inside"), 1)
    Path("inside/link").symlink_to(Path("outside").absolute(), target_is_directory=True)
    assert [path.parent.name for path in find_images("inside")] == ["inside"]


def test_a_result_shows_no_other_file_of_the_machine():
    with h5py.File("secret.nc", "w") as secret:
        secret["password"] = np.frombuffer(b"hunter2", np.uint8)
    with h5py.File("result.nc", "w") as result:
        result["entropy"] = h5py.ExternalLink("secret.nc", "/password")
    try:
        dataset = results.read(Path("result.nc"))
    except UserError as error:
        assert "result.nc" in str(error)
    else:
        assert b"hunter2" not in b"".join(dataset[name].values.tobytes() for name in dataset.variables)


def test_class_lists_and_prompts_are_only_text():
    assert class_names("{0.__class__}, %s, $(touch owned), `touch owned`")[0] == ["{0.__class__}"]
    with pytest.raises(UserError):
        templates(["{0.__class__.__mro__}"])
    root = labelled(Path("data"), 1)
    (root / "classes.txt").write_text("__import__('os').mkdir('owned')\ngrass\n")
    assert datasets.parse("data").classes[1] == "grass"


def test_mat_files_hold_arrays_only():
    savemat("label.mat", {"LabelMap": np.array([[Hostile()]], object)})
    with pytest.raises(BadLabel):
        read_mat(Path("label.mat"))


class Tags(HTMLParser):
    """The tags of a page, and the addresses that it would load or run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes


@pytest.mark.parametrize("text", [SCRIPT, '"><img src=x onerror=alert(1)>', "</style><svg onload=alert(1)>"])
def test_the_page_of_figures_escapes_every_name(text):
    dataset = sweep(recipe_lists.ablation(), (text,), ("voc20", text))
    dataset.attrs |= dict.fromkeys(("command", "libraries", "created"), text) | {"skipped": f'["{len(text)}"]'}
    dataset = dataset.assign_coords(
        {name: (dim, [text] * dataset.sizes[dim]) for name, dim in (("architecture", "model"), ("weights", "model"))}
    )
    drawn = [
        Drawn(ENTRIES["fig5"], {"ablation": dataset}, png=picture_bytes(0), files=[f"{text}.png"]),
        Drawn(ENTRIES["table1"], {text: dataset}, table=ENTRIES["table1"].draw(dataset)),
    ]
    parsed = Tags(page(drawn, [text], text))
    assert not {"script", "svg", "iframe", "object", "embed"} & parsed.tags
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    sources = [value for name, value in parsed.attributes if name == "src"]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)


def test_pictures_with_hostile_names_stay_in_their_folder(tmp_path):
    from forked import clean, command

    here = tmp_path / "here"
    folder = pictures(here / "pictures", 1)
    (folder / "good_0.png").rename(folder / "a;touch owned;$(touch owned)<b>.png")
    words = ("pictures", "--model", "clip_tiny", "--classes", "../../owned, /owned, <script>", "--output", "out")
    clean(command("clearclip.segment", *words, cwd=here), (0,))
    assert {path.parent for path in here.rglob("*.png")} == {folder, here / "out"}


@pytest.mark.parametrize("file", ["../owned/shard_00000-0123456789abcdef.safetensors", "/etc/passwd", "protocol.json"])
def test_a_protocol_of_tokens_names_no_file_outside_its_folder(file, tmp_path):
    analysis.export_tokens("clip_tiny", "scenes", tmp_path / "here", limit=1, progress=False)
    path = tmp_path / "here" / "protocol.json"
    about = json.loads(path.read_text())
    about["shards"][0]["file"] = file
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match="is not a shard"):
        analysis.TokenShards(tmp_path / "here", 6)


def test_the_page_says_what_is_tested_here():
    """SECURITY.md names what is read, and the README and the site lead to it."""
    root = Path(__file__).parents[2]
    text = (root / "SECURITY.md").read_text("utf-8")
    for word in ("weights_only", "safetensors", "bomb", ".nc", "index.html", "<script>", "JSON", "loadmat"):
        assert word in text
    assert "SECURITY.md" in (root / "README.md").read_text("utf-8")


def test_a_visitor_of_the_explorer_owns_nothing(tmp_path, monkeypatch):
    """A name of a class that is a script, names of models that are files, and an upload that is a bomb."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaders = {"clip_tiny": lambda: load("clip_tiny", device="cpu")}
    shelf, visit = Shelf(loaders, tmp_path / "texts", others=load), Visit(Image.new("RGB", (64, 64)), "mine")
    html = answers.segment(shelf, visit, Controls("clip_tiny", side=64, classes=f'{SCRIPT}, "><img onerror=x>'))
    assert "<script" not in html and "<img onerror" not in html and "&lt;script&gt;" in html
    secret = torchscript(tmp_path / "secret.pt", Hostile())
    for name in ("open_clip:ViT-B-16/FILE", "dino_tiny:FILE", "x=dino_tiny:FILE", "timm:FILE", "transformers:FILE"):
        with pytest.raises(UserError):
            shelf.model(name.replace("FILE", str(secret)))
    upload = tmp_path / "upload.png"
    upload.write_bytes(bomb(8000, 8000))
    with pixel_limit(MOST_PIXELS), pytest.raises(BadImage, match="pixels"):
        uploaded(upload)
    assert not upload.exists()
