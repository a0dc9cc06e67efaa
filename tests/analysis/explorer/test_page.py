"""The explorer as a visitor has it: the command is started, and Chromium clicks, types, uploads and downloads."""

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.request import urlopen

import numpy as np
import pytest
from commands import here
from PIL import Image

import clearclip
from analysis.explorer import board, explain, passes, pictures, segments, twin, views
from analysis.explorer.shelf import Shelf
from analysis.probes.similarity import similarity_maps
from clearclip.interventions import Heads, intervene
from clearclip.methods.windows import Windows
from clearclip.models.block import FEATURES
from clearclip.runs import results

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AT = pictures.examples()["drawn cat"].at
WAIT = 60_000  # milliseconds: other tests run beside this one

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"),
    pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is missing: pip install 'clearclip-analysis[app]'"),
]


@pytest.fixture(scope="module")
def starting(tmp_path_factory):
    """`clearclip explore` on its way, its address, and the folder in which everything temporary lies."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (sys.executable, "-m", "analysis.explore", "--no-browser", "--port", str(port), "--device", "cpu")
    env = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    running = subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    yield running, f"http://127.0.0.1:{port}", folder
    running.terminate()
    running.wait(60)
    assert not list(folder.glob("clearclip-explore-*")), "the temporary folder went with the page"


@pytest.fixture(scope="module")
def chromium(starting):
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(starting, seen, chromium):
    """The address of the page once it is there, and its temporary folder."""
    running, address, folder = starting
    said = []
    for line in running.stdout:
        said.append(line)
        if "explorer is at" in line:
            return address, folder
    raise AssertionError("the explorer did not start:\n" + "".join(said))


@contextmanager
def opened(chromium, address, width=1200, scheme="light"):
    """The page; nothing on it may complain, and nothing may be fetched from elsewhere."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    own = (address.rsplit("/", 1)[0] if address.startswith("file") else address, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert not wrong


@pytest.fixture(scope="module")
def page(chromium, server):
    with opened(chromium, server[0]) as page:
        page.wait_for_selector("#look .board")
        yield page


@pytest.fixture(scope="module")
def seen():
    """What the two models make of the first picture, computed here."""
    photo = pictures.examples()["drawn cat"].load()
    models = [clearclip.load(name, device="cpu") for name in ("clip_tiny", "dino_tiny")]
    return [passes.run(model, pictures.square(photo, 128)) for model in models]


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()
    page.wait_for_selector(f"#{name.lower()} .explorer > *")


def caption(seen, layer, at, feature):
    return board.cosine_map(views.similarity(seen, layer, feature, at))[1]


def wait_for_maps(page, seen, layer, at, root="#look"):
    """Until the page's captions are those of the library; then its pixels must be."""
    for each in seen:
        for feature in FEATURES:
            map_ = f'{root} [data-model="{each.model.name}"] [data-kind="similarity"][data-name="{feature}"]'
            text = caption(each, layer, at, feature)
            page.wait_for_function(
                "([map, text]) => document.querySelector(map).parentElement.querySelector('figcaption').innerText === text",
                arg=[map_, text],
            )
            expected = board.maps(each, layer, at, "similarity")[feature][0]
            assert (pixels(page.locator(f"{map_} img").get_attribute("src")) == expected).all()


def pixels(address):
    """The pixels of a picture inside a page."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def click(page, map_, row, column, rows=16, columns=16):
    """Click the middle of a patch."""
    box = map_.bounding_box()
    place = {"x": box["width"] * (column + 0.5) / columns, "y": box["height"] * (row + 0.5) / rows}
    map_.click(position=place)
    return (row + 0.5) / rows, (column + 0.5) / columns


# the tabs --------------------------------------------------------------------------------------------------------------


def test_look_click_slider_and_keys(page, seen):
    wait_for_maps(page, seen, 6, AT)  # before anything is touched
    at = click(page, page.locator("#look .photo .map").first, 5, 9)
    wait_for_maps(page, seen, 6, at)
    page.locator("#layer input[type=range]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    wait_for_maps(page, seen, 3, at)
    photo = page.locator("#look .photo .map").nth(1)
    photo.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    at = (6.5 / 16, 10.5 / 16)
    wait_for_maps(page, seen, 3, at)
    assert page.evaluate("document.activeElement.classList.contains('map')")  # the next key finds it, too
    assert "row 7 of 16, column 11 of 16" in photo.get_attribute("aria-label")
    values = views.curves(seen[0]).entropy.sel(layer=3, feature="X_attn").item()
    said = page.locator('#look [data-model="clip_tiny"] .curves').get_attribute("aria-label")
    assert "entropy in layer 3: X_res" in said and f"X_attn {values:.3g}" in said


def label_pixels(page, root, index):
    return pixels(page.locator(f"{root} .stack .labels").nth(index).get_attribute("src"))


def painted(labels, classes):
    from clearclip.segmentation.overlay import class_colors

    return (class_colors(classes) * 255).round().astype(np.uint8)[labels]


def test_segment_recipes_alpha_and_opacity(page, seen):
    open_tab(page, "Segment")
    page.locator("#classes textarea, #classes input").fill("cat, wood, snow")
    page.locator("#recipes").get_by_label("SCLIP", exact=True).check()
    page.wait_for_selector("#segment figcaption:has-text('SCLIP')")
    page.wait_for_selector("#segment .legend li:has-text('snow')")
    page.get_by_role("button", name="A recipe of your own").click()
    page.locator("#own input").check()
    page.wait_for_selector("#segment figcaption:has-text('your own')")
    own = segments.own("qq", residual=True, ffn=False, alpha=1, beta=0)
    recipes = ["clip", "sclip", "clearclip", own]
    segmenter = clearclip.Segmenter(
        seen[0].model, "cat, wood, snow", recipes, windows=Windows.of_side(128), prompts="simple"
    )
    (expected,) = segmenter.each([seen[0].picture])
    for i, result in enumerate(expected.values()):
        assert (label_pixels(page, "#segment", i) == painted(result.labels, result.classes)).all()
    row, column = (int(share * 128) for share in (6.5 / 16, 10.5 / 16))  # where the ring is
    shown = page.locator("#segment .scores tbody td").all_inner_texts()
    wanted = [f"{result.scores[i, row, column]:.2f}" for i in range(3) for result in expected.values()]
    assert shown == wanted
    page.locator("#opacity input[type=range]").fill("0.2")
    page.wait_for_function("getComputedStyle(document.querySelector('#segment .labels')).opacity === '0.2'")


def test_explain_bars_and_a_head_switched_off(page, seen, tmp_path):
    open_tab(page, "Explain")
    button = page.locator("#explain button[data-head]").first
    head = button.get_attribute("data-head")
    shelf, question = Shelf({}, tmp_path), segments.Question("cat, wood, snow")
    taken = explain.taken_apart(shelf, seen[0], question, clearclip.RECIPES["clip"], None)
    why = explain.reason(taken, (6, 10))
    heading = page.locator("#explain .bars").locator("xpath=preceding-sibling::h3").inner_text()
    assert heading.startswith(f"Why “{why.label}” and not “{why.rival}”") and f"{why.margin:.4f}" in heading
    button.click()
    page.wait_for_selector("#explain figcaption:has-text('switched off')")
    layer, number = map(int, re.findall(r"\d+", head))
    changed = intervene(seen[0].model, Heads(layer, (number,)))
    how = {"windows": Windows.of_side(128), "prompts": "simple"}
    without = clearclip.Segmenter(changed, "cat, wood, snow", "clip", **how)(seen[0].picture)
    assert (label_pixels(page, "#explain", 1) == painted(without.labels, without.classes)).all()
    assert page.locator(f'#explain button[data-head="{head}"]').first.get_attribute("aria-pressed") == "true"


def test_what_is_seen_is_taken_away(page, seen, tmp_path):
    open_tab(page, "Look")
    page.get_by_role("button", name="Take away what you see").click()
    page.locator("#take").click()
    page.wait_for_selector("#files a")
    with page.expect_download() as download:
        page.locator("#files a[download$='similarity_clip_tiny.nc'], #files a:has-text('.nc')").first.click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    expected = similarity_maps(
        seen[0].model, [picture_of(seen[0])], (6.5 / 16, 10.5 / 16), [3], image_size=128
    ).similarity.values
    assert np.allclose(results.read(file, "similarity").similarity.values, expected, atol=1e-6)
    assert "clearclip.load('clip_tiny')" in page.locator("#code textarea").input_value()


def picture_of(seen):
    from analysis.probes.images import pictures

    return pictures(seen.picture)[0]


def test_an_upload_is_seen_by_its_visitor_only_and_leaves_no_file(page, chromium, server, tmp_path):
    address, folder = server
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    photo.save(tmp_path / "secret.png")
    with opened(chromium, address) as other:
        other.wait_for_selector("#look .board")
        before = other.locator("#look .photo img").first.get_attribute("src")
        page.locator("input[type=file]").first.set_input_files(tmp_path / "secret.png")
        mine = passes.run(clearclip.load("clip_tiny", device="cpu"), pictures.square(pictures.square(photo, 512), 128))
        wait_for_maps(page, [mine], 3, (0.5, 0.5))
        other.locator("#layer input[type=range]").focus()
        other.keyboard.press("ArrowLeft")
        other.wait_for_selector("#look .layer:has-text('5')")
        assert other.locator("#look .photo img").first.get_attribute("src") == before
    assert not list(folder.rglob("secret*"))
    (tmp_path / "huge.png").write_bytes(b"0" * 21_000_000)
    (tmp_path / "text.png").write_text("no picture")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "text.png")
    page.wait_for_selector("#note:has-text('no picture that Pillow can read')")
    with urlopen(address) as answer:
        assert answer.status == 200


# for everybody ---------------------------------------------------------------------------------------------------------


def violations(page):
    """What axe-core finds wrong on a page, in its words."""
    return [
        (each["id"], node["target"], node["failureSummary"])
        for each in axe.Axe().run(page).response["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_is_accessible_and_fits_a_narrow_window(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 900} if scheme == "dark" else {"width": 1200, "height": 900})
    page.wait_for_function("scheme => document.body.classList.contains('dark') === (scheme === 'dark')", arg=scheme)
    for name in ("Look", "Segment", "Explain"):
        open_tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert not violations(page)


# the static twin -------------------------------------------------------------------------------------------------------


def test_the_twin_works_from_the_disk(chromium, seen, tmp_path):
    question = segments.Question("cat, wood", ("clip", "clearclip"), prompts="photo")
    labels = {"clip_tiny": segments.segment(Shelf({}, tmp_path), seen[0], question)}
    file = tmp_path / "page.html"
    file.write_text(twin.html(seen, AT, 6, labels, source="A drawn scene."), "utf-8")
    assert file.stat().st_size < twin.MOST_BYTES
    with opened(chromium, file.as_uri()) as page:
        page.context.set_offline(True)
        page.wait_for_selector("[data-ready]")
        off = max(float(value) for value in re.findall(r"([\d.]+) at most", page.locator(".note").last.inner_text()))
        at = click(page, page.locator(".photo .map").first, 5, 9)
        page.locator("#layer").focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        for each in seen:
            assert page.locator(f'[data-model="{each.model.name}"] .layer').inner_text() == "4"
            for feature in FEATURES:
                part = page.locator(f'[data-model="{each.model.name}"]')
                values = views.similarity(each, 4, feature, at)
                shown = part.locator(
                    f'figure:has([data-kind="similarity"][data-name="{feature}"]) figcaption'
                ).inner_text()
                low, high = (float(x) for x in re.findall(r"-?[\d.]+\d", shown.replace("−", "-")))
                assert abs(low - values.min()) <= off + 0.011 and high == 1
                image = pixels(
                    part.locator(f'[data-kind="similarity"][data-name="{feature}"] img').get_attribute("src")
                )
                exact = board.cosine_map(values)[0]
                assert np.abs(image.astype(int) - exact.astype(int)).mean() < 12
                for kind in ("pca", "norm"):
                    image = part.locator(f'[data-kind="{kind}"][data-name="{feature}"] img').get_attribute("src")
                    assert (pixels(image) == board.maps(each, 4, at, kind)[feature][0]).all()
        assert (
            label_pixels(page, "body", 1) == painted(labels["clip_tiny"]["clearclip"].labels, ("cat", "wood"))
        ).all()
        assert not violations(page)


def test_the_command_writes_a_twin(tmp_path):
    words = (
        "--model",
        "dino_tiny",
        "--images",
        "scenes",
        "--image-size",
        64,
        "--device",
        "cpu",
        "--source",
        "mine & yours",
    )
    done = here("analysis.explore", *words, "--export", "page.html", cwd=tmp_path)
    assert done.returncode == 0 and "wrote page.html" in done.stdout, done.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "mine &amp; yours" in page and "<!--" not in page and "http" not in page.replace("http://www.w3.org/", "")
    for wrong, words in {
        "name a .html file": ("--export", "page.txt"),
        "lie in": ("--export", "x.html", "--at", "2", "2"),
        "add --export": ("--at", "0.5", "0.5"),
        "holds one or two": ("--export", "x.html", "--model", "a=dino_tiny", "b=dino_tiny", "c=dino_tiny"),
        "layers 1 … 6": ("--export", "x.html", "--layer", "9"),
    }.items():
        done = here("analysis.explore", "--model", "dino_tiny", "--device", "cpu", *words, cwd=tmp_path)
        assert done.returncode == 2 and wrong in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
