"""Results of segmentation never replace each other, or a picture."""

import os

import pytest
from PIL import Image

from clearclip.errors import UserError
from clearclip.pictures import BadImage, pixel_limit, read_image
from clearclip.segmentation.files import photos, refuse_collisions, stems


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def draw(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / name)
        return tmp_path

    return draw


COLLISIONS = {
    "the overlay of another": (["in/a.png", "in/a_overlay.png"], ["clip"], r"a\.png.* and .*a_overlay\.png.*out/a_overlay\.png"),
    "with a recipe's name": (["in/a.png", "in/a_clip.png"], ["clip"], None),
    "several recipes": (["in/a.png", "in/a_clip.png"], ["clip", "sclip"], None),
    "the comparison": (["in/a.png", "in/a_compare.png"], ["clip", "sclip"], None),
    "the comparison and a recipe": (["in/a.png"], ["clip", "compare"], r"\[compare\] and the comparison of in/a"),
    "recipes that differ in signs only": (["in/a.png"], ["clip a/b", "clip a:b"], r"\[clip a/b\] and .*\[clip a:b\]"),
    "a folder with a result's name": (["in/a.jpg", "in/a.png/b.png"], ["clip"], r"a\.jpg.* and .*b\.png"),
    "capitals": (["in/a.png", "in/A_overlay.png"], ["clip"], "would both be written"),
    "the table": (["in/shares.csv/a.png"], ["clip"], "the table of shares"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLLISIONS)
def test_results_that_would_be_one_file_are_refused_and_named(name, place):
    files, recipes, message = COLLISIONS[name]
    folder = place(*files)
    pictures = photos(["in"])
    if message is None:
        return refuse_collisions(folder / "out", pictures, recipes)
    with pytest.raises(UserError, match=message):
        refuse_collisions(folder / "out", pictures, recipes)


def test_names_of_photos_are_told_apart(place):
    place("one/a.png", "one/a.jpg", "one/a_2.png", "two/a.png", "two/A.png")
    names = photos(["one", "two"])
    assert len(names) == 5 and len({name.casefold() for name in names}) == 5
    refuse_collisions(place() / "out", names, ["clip", "sclip"])
    assert stems("a", ["clip"]) == {"clip": "a"}


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_result_that_is_another_name_of_a_picture(link, place):
    folder = place("in/a.png")
    (folder / "out").mkdir()
    link(folder / "in/a.png", folder / "out/a.png")
    with pytest.raises(UserError, match=r"out/a\.png, a result of in/a\.png .*is the picture in/a\.png"):
        refuse_collisions(folder / "out", photos(["in"]), ["clip"])


def test_pictures_where_the_results_go(place):
    folder = place("in/a.png")
    with pytest.raises(UserError, match="lies in"):
        refuse_collisions(folder / "in", photos(["in"]), ["clip"])


def test_the_pixel_limit_can_be_raised_and_is_bounded(place, monkeypatch):
    path = place("a.png") / "a.png"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(BadImage, match="pixels"):
        read_image(path)
    with pixel_limit(64):
        assert read_image(path).size == (8, 8)
    assert Image.MAX_IMAGE_PIXELS == 20
    for pixels in (0, 2**30 + 1):
        with pytest.raises(UserError, match="max pixels"), pixel_limit(pixels):
            pass
