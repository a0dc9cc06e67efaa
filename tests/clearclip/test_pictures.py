import io
import os
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from analysis.probes.images import PHOTOGRAPHS, pictures
from clearclip.entries import digest_now
from clearclip.errors import UserError
from clearclip.pictures import BadImage, find_images, read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
ALPHA = COLOURS[..., 1]
ORIENTATION = 274  # the EXIF tag


UPRIGHT = {  # what a viewer has to do with the stored rows, EXIF 2.3 table of orientations
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def stacked(grey):
    return np.stack([grey] * 3, axis=-1)


def on_white(colours, alpha):
    opacity = alpha[..., None] / 255.0
    return colours * opacity + 255 * (1 - opacity)


def png(width, height, data, bits=8, colour=0):
    """A PNG file of exactly this header and compressed stream, with right checksums."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# odd but good --------------------------------------------------------------------------------------------------------


def test_handmade_png_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2, 1, zlib.compress(b"\x00\x07\xc8")))
    assert pixels(tmp_path / "a.png").tolist() == [[[7] * 3, [200] * 3]]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".tga", ".PNG", ".BmP"])
def test_rgb_keeps_its_values(tmp_path, suffix):
    Image.fromarray(COLOURS).save(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a{suffix}"), COLOURS)


def test_lossless_webp_keeps_its_values(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(pixels(tmp_path / "a.webp"), COLOURS)


def test_content_decides_and_not_the_suffix(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(COLOURS), "PNG"))
    assert np.array_equal(pixels(tmp_path / "a.jpg"), COLOURS)


@pytest.mark.parametrize("name", ["été à Kraków.png", "写真 (1).png", "tab\tand 'quote'.png", "🦉.png"])
def test_names_with_spaces_and_other_scripts(tmp_path, name):
    folder = tmp_path / "mes photos №1"
    folder.mkdir()
    Image.fromarray(COLOURS).save(folder / name)
    assert find_images(tmp_path) == [folder / name]
    assert np.array_equal(pixels(folder / name), COLOURS)


def test_grey(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), stacked(GREY))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pbm"])
def test_one_bit(tmp_path, suffix):
    bits = GREY > 127
    Image.fromarray(bits).save(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a{suffix}"), stacked(np.where(bits, 255, 0)))


def palette_image():
    indices = GREY % 3
    image = Image.fromarray(indices)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    return image, np.array([[10, 20, 30], [200, 0, 0], [0, 0, 250]])[indices], indices


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_palette(tmp_path, suffix):
    image, colours, _ = palette_image()
    image.save(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a{suffix}"), colours)


def test_palette_with_one_transparent_colour_lies_on_white(tmp_path):
    image, colours, indices = palette_image()
    image.save(tmp_path / "a.png", transparency=1)
    assert np.array_equal(pixels(tmp_path / "a.png"), np.where(indices[..., None] == 1, 255, colours))


def test_palette_with_an_alpha_per_colour_lies_on_white(tmp_path):
    image, colours, indices = palette_image()
    image.save(tmp_path / "a.png", transparency=bytes([255, 128, 0]))
    expected = on_white(colours, np.array([255, 128, 0])[indices])
    assert np.abs(pixels(tmp_path / "a.png") - expected).max() <= 1


def test_rgba_lies_on_white(tmp_path):
    Image.fromarray(np.dstack([COLOURS, ALPHA])).save(tmp_path / "a.png")
    assert np.abs(pixels(tmp_path / "a.png") - on_white(COLOURS, ALPHA)).max() <= 1


def test_grey_with_alpha_lies_on_white(tmp_path):
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]).save(tmp_path / "a.png")
    assert np.abs(pixels(tmp_path / "a.png") - on_white(stacked(GREY), ALPHA)).max() <= 1


def test_rgb_with_a_transparent_colour_lies_on_white(tmp_path):
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 0] = 9, 8, 7
    Image.fromarray(colours).save(tmp_path / "a.png", transparency=(9, 8, 7))
    colours[0, 0] = 255
    assert np.array_equal(pixels(tmp_path / "a.png"), colours)


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 100), (155, 155, 155)),
    ],
)
def test_cmyk_jpeg(tmp_path, ink, colour):
    Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - colour).max() <= 3


DEEP = np.array([[0, 128, 129, 255, 256], [1000, 30000, 40000, 65278, 65535]], dtype=np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    Image.fromarray(DEEP).save(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels(tmp_path / f"a{suffix}"), stacked(np.rint(DEEP / 257)))


def test_16_bit_big_endian_tiff(tmp_path):
    Image.frombytes("I;16B", (5, 2), DEEP.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif"), stacked(np.rint(DEEP / 257)))


def test_16_bit_pgm(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 5 2 65535\n" + DEEP.astype(">u2").tobytes())
    assert np.array_equal(pixels(tmp_path / "a.pgm"), stacked(np.rint(DEEP / 257)))


def test_a_dark_16_bit_picture_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").max() == 1


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_uncompressed_grey_tiff_with_orientation(tmp_path, orientation):
    """Pillow maps such files into memory with width and height exchanged when it opens them by path."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for values, grey in [(GREY, GREY), (DEEP, np.rint(DEEP / 257))]:
        Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
        assert np.array_equal(pixels(tmp_path / "a.tif"), stacked(UPRIGHT[orientation](grey)))


def test_32_bit_integers_are_scaled_by_their_maximum(tmp_path):
    values = np.array([[0, 500_000, 1_000_000, 2_000_000]], dtype=np.int32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif"), stacked(np.rint(values / 2_000_000 * 255)))


def test_32_bit_integers_within_8_bits_keep_their_values(tmp_path):
    values = np.array([[0, 1, 254, 255]], dtype=np.int32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif"), stacked(values))


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_float_tiff_is_scaled_from_its_usual_ranges(tmp_path, top):
    unit = np.linspace(0, 1, 11, dtype=np.float32)[None]
    Image.fromarray(unit * np.float32(top)).save(tmp_path / "a.tif")
    assert np.abs(pixels(tmp_path / "a.tif") - stacked(unit * 255)).max() <= 0.501


def test_first_frame_of_an_animated_gif(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / "a.gif").n_frames == 3
    assert np.array_equal(pixels(tmp_path / "a.gif"), np.broadcast_to([255, 0, 0], (8, 8, 3)))


def test_first_page_of_a_tiff(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("RGB", (3, 2), "blue")])
    assert Image.open(tmp_path / "a.tif").n_frames == 2
    assert np.array_equal(pixels(tmp_path / "a.tif"), COLOURS)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(COLOURS).save(tmp_path / f"a{suffix}", exif=exif, **options)
    assert np.array_equal(pixels(tmp_path / f"a{suffix}"), UPRIGHT[orientation](COLOURS))


def test_exif_orientation_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    halves = np.zeros((16, 32, 3), np.uint8)
    halves[:, 16:] = 255
    Image.fromarray(halves).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = pixels(tmp_path / "a.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:16].max() < 20 and upright[16:].min() > 235


def test_an_orientation_that_does_not_exist_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 77
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), COLOURS)


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


# bad -----------------------------------------------------------------------------------------------------------------

WHOLE = {
    "jpg": encoded(Image.fromarray(COLOURS).resize((64, 64)), "JPEG"),
    "png": encoded(Image.fromarray(COLOURS).resize((64, 64)), "PNG"),
    "gif": encoded(Image.fromarray(COLOURS).resize((64, 64)), "GIF"),
    "tif": encoded(Image.fromarray(COLOURS), "TIFF"),
    "bmp": encoded(Image.fromarray(COLOURS), "BMP"),
    "ppm": encoded(Image.fromarray(COLOURS), "PPM"),
    "webp": encoded(Image.fromarray(COLOURS).resize((64, 64)), "WEBP"),
    **({"avif": encoded(Image.fromarray(COLOURS).resize((64, 64)), "AVIF")} if features.check("avif") else {}),
}
BAD = {
    "empty.jpg": b"",
    "text.jpg": b"These are words and no picture.\n" * 20,
    "page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "zeros.png": bytes(1000),
    "half.jpg": WHOLE["jpg"][: len(WHOLE["jpg"]) // 2],
    "half.png": WHOLE["png"][: len(WHOLE["png"]) // 2],
    "half.tif": WHOLE["tif"][: len(WHOLE["tif"]) // 2],
    "half.bmp": WHOLE["bmp"][: len(WHOLE["bmp"]) // 2],
    "half.webp": WHOLE["webp"][: len(WHOLE["webp"]) // 2],
    "header.jpg": WHOLE["jpg"][:20],
    "header.png": WHOLE["png"][:20],
    "header.gif": WHOLE["gif"][:8],
    "header.ppm": b"P6 6",
    "signature.png": b"\x89PNG\r\n\x1a\n",
    "no zlib.png": png(8, 8, b"this is no zlib stream"),
    "broken zlib.png": png(64, 64, zlib.compress(np.random.default_rng(0).bytes(64 * 65))[:-2000] + bytes(2000)),
    "bad checksum.png": WHOLE["png"][:20] + b"\xff" + WHOLE["png"][21:],
    "no pixels.png": png(0, 0, zlib.compress(b"")),
    "bomb.png": png(60_000, 60_000, zlib.compress(bytes(1000))),
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>',
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(BadImage, match=name.replace(".", r"\.")):
        read_image(tmp_path / name)


@pytest.mark.skipif("avif" not in WHOLE, reason="this Pillow has no AVIF")
def test_damaged_avif(tmp_path):
    data, refused = WHOLE["avif"], 0
    for place in range(len(data)):
        (tmp_path / "a.avif").write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            read_image(tmp_path / "a.avif")
        except BadImage:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("limit", [10, COLOURS.size // 3 - 1])  # above the limit Pillow warns, above twice it raises
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    Image.fromarray(COLOURS).save(tmp_path / "bomb.png")
    assert read_image(tmp_path / "bomb.png").size == (9, 6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImage, match=r"bomb\.png.*pixels"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 101)])
def test_strip(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "strip.png")
    with pytest.raises(BadImage, match=rf"strip\.png: {size[0]}×{size[1]}"):
        read_image(tmp_path / "strip.png")


def test_a_strip_of_1_to_100_is_accepted(tmp_path):
    Image.new("RGB", (100, 1)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size == (100, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_tiff_that_is_not_finite(tmp_path, value):
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = value
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(BadImage, match=r"a\.tif: .*finite"):
        read_image(tmp_path / "a.tif")


def test_folder_with_the_suffix_of_a_picture(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(BadImage, match=r"x\.jpg"):
        read_image(tmp_path / "x.jpg")


def test_dangling_link_and_missing_file(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name in ("link.png", "gone.png"):
        with pytest.raises(BadImage, match=name):
            read_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(BadImage, match="Permission"):
        read_image(tmp_path / "a.png")


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    keep=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_file_is_a_picture_or_a_bad_image(tmp_path, kind, keep, changes):
    data = bytearray(WHOLE[kind][: round(keep * len(WHOLE[kind]))])
    for place, value in changes:
        if data:
            data[int(place * len(data))] = value
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata
        try:
            assert read_image(path).mode == "RGB"
        except BadImage as error:
            assert "damaged" in str(error)


def test_reading_in_threads_leaves_the_warning_filters_alone(tmp_path, monkeypatch):
    """Two reads overlap so that the one that began first also ends first."""
    for name in ("first.png", "second.png"):
        Image.fromarray(COLOURS).save(tmp_path / name)
    second_began, first_ended = threading.Event(), threading.Event()
    original = ImageOps.exif_transpose

    def interleaved(image):
        if threading.current_thread() is first:
            second_began.wait(10)
        else:
            second_began.set()
            first_ended.wait(10)
        return original(image)

    monkeypatch.setattr(ImageOps, "exif_transpose", interleaved)
    before = list(warnings.filters)

    def read_first():
        read_image(tmp_path / "first.png")
        first_ended.set()

    first = threading.Thread(target=read_first)
    second = threading.Thread(target=read_image, args=(tmp_path / "second.png",))
    first.start()
    second.start()
    first.join(20)
    second.join(20)
    after = list(warnings.filters)
    warnings.filters[:] = before
    assert first_ended.is_set() and after == before


# finding -------------------------------------------------------------------------------------------------------------


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(WHOLE["png"])


def test_find_images_is_recursive_and_sorted(tmp_path):
    touch(tmp_path, "b/2.png", "b/1.jpg", "a.png", "c/d/e/x.tif", "B.webp", "b.PNG")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["B.webp", "a.png", "b.PNG", "b/1.jpg", "b/2.png", "c/d/e/x.tif"]


def test_find_images_passes_over_hidden_other_and_linked(tmp_path):
    touch(
        tmp_path,
        "in/a.png",
        "in/.b.png",
        "in/.cache/c.png",
        "in/notes.txt",
        "in/film.mp4",
        "in/paper.pdf",
        "in/png",
        "in/page.eps",
        "out/d.png",
    )
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "out", target_is_directory=True)
    (tmp_path / "in" / "folder.png").mkdir()
    assert find_images(tmp_path / "in") == [tmp_path / "in" / "a.png"]


def test_find_images_below_a_hidden_folder(tmp_path):
    touch(tmp_path, ".data/a.png")
    assert find_images(tmp_path / ".data") == [tmp_path / ".data" / "a.png"]


def test_find_images_takes_a_single_file_of_any_suffix(tmp_path):
    touch(tmp_path, "a.unknown")
    assert find_images(str(tmp_path / "a.unknown")) == [tmp_path / "a.unknown"]
    assert read_image(tmp_path / "a.unknown").size == (64, 64)


def test_find_images_in_folders_without_any(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")
    touch(tmp_path, "x/notes.txt")
    with pytest.raises(UserError, match="no pictures"):
        find_images(tmp_path)


# analysis.probes.images -----------------------------------------------------------------------------------------------------


def test_pictures_of_a_folder(tmp_path):
    touch(tmp_path, "b.png", "a/c.png")
    found = pictures(tmp_path)
    assert [picture.name for picture in found] == ["a/c.png", "b.png"]
    assert [picture.files for picture in found] == [(tmp_path / "a/c.png",), (tmp_path / "b.png",)]
    assert found[0].read().size == (64, 64)


def test_pictures_limit(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png")
    assert [picture.name for picture in pictures(tmp_path, limit=2)] == ["a.png", "b.png"]
    assert len(pictures(tmp_path, limit=99)) == 3
    for limit in (0, -1):
        with pytest.raises(UserError, match=f"limit {limit}"):
            pictures(tmp_path, limit=limit)


def test_pictures_given_twice_count_once(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "b.png")
    assert len(pictures([tmp_path / "a.png", tmp_path / "a.png"])) == 1
    assert len(pictures([tmp_path, tmp_path / "a.png"])) == 2
    monkeypatch.chdir(tmp_path)
    assert len(pictures(["a.png", tmp_path / "a.png", "../" + tmp_path.name + "/a.png"])) == 1


def test_pictures_of_two_folders_with_equal_names_are_told_apart(tmp_path):
    touch(tmp_path, "x/a.png", "y/a.png")
    names = [picture.name for picture in pictures([tmp_path / "x", tmp_path / "y"])]
    assert len(set(names)) == 2 and names[0].endswith("x/a.png") and names[1].endswith("y/a.png")


def test_pictures_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        pictures([tmp_path / "nowhere"])


def test_a_dangling_link_is_found_as_a_bad_picture(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    found = pictures(tmp_path)
    assert [picture.name for picture in found] == ["a.png", "b.png"]
    with pytest.raises(BadImage, match=r"b\.png"):
        found[1].read()


def test_default_photographs_are_real():
    found = pictures()
    assert [picture.name for picture in found] == list(PHOTOGRAPHS)
    assert all(min(picture.read().size) >= 200 and np.ptp(np.asarray(picture.read())) > 50 for picture in found)
    with pytest.raises(UserError, match="empty list"):
        pictures([])


def test_digest_tells_lists_apart(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    found = pictures(tmp_path)
    before = digest_now(found)
    assert before == digest_now(pictures(tmp_path))
    assert len({before, digest_now(found[::-1]), digest_now(found[:1]), digest_now([])}) == 4
    (tmp_path / "b.png").write_bytes(WHOLE["jpg"])
    assert digest_now(pictures(tmp_path)) != before


@pytest.mark.skipif(sys.platform != "linux", reason="only there may a file name be any bytes")
def test_a_name_that_is_not_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(WHOLE["png"])
    found = pictures(tmp_path)
    assert found[0].read().size == (64, 64)
    assert len(digest_now(found)) == 64
    found[0].name.encode()  # what a Dataset is written with


def test_a_benchmark_is_a_source_of_pictures(tmp_path):
    for kind, pixels in (("images", COLOURS), ("annotations", COLOURS[..., 0] % 3)):
        for name in ("b", "a"):
            path = tmp_path / kind / "validation" / f"{name}.{'jpg' if kind == 'images' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    found = pictures([f"ade20k:{tmp_path}", "photographs"], limit=2)
    assert [picture.name for picture in found] == ["a", "b", *PHOTOGRAPHS[:2]]
    assert [picture.source for picture in found] == ["ade20k"] * 2 + ["photographs"] * 2
    assert found[0].read().size == COLOURS.shape[1::-1]
    with pytest.raises(UserError, match="half unpacked"):
        pictures(f"ade20k:{tmp_path / 'images'}")
