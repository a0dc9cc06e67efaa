"""The index page needs nothing but itself, and says where everything comes from."""

import io
import os
import shutil
import subprocess
from base64 import b64decode
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sweeps import sweep

from analysis.sweeps import recipe_lists
from figures import index, table1
from figures.catalogue import ENTRIES
from figures.index import Drawn, page

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Page(HTMLParser):
    """The images, links, anchors and open elements of a page."""

    EMPTY = ("meta", "img", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.ids, self.open, self.text, self.tags = [], [], [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.images += [values] if tag == "img" else []
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def dataset(random=()):
    one = sweep(recipe_lists.ablation(), ("clip_tiny", "clip_vitb16"), ("voc20", "scenes"), random=random)
    one.attrs |= {
        "command": "python -m analysis.ablation --x '<b>'",
        "libraries": "torch 2.9",
        "created": "2026-01-01",
        "skipped": '["a"]',
    }
    return one


@pytest.fixture(scope="module")
def drawn():
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1])
    png = io.BytesIO()
    figure.savefig(png)
    plt.close(figure)
    data = {"ablation": dataset()}
    return [
        Drawn(ENTRIES["fig5"], data, png=png.getvalue(), files=["fig5.pdf", "fig5.png"]),
        Drawn(ENTRIES["table1"], data, table=table1.table(data["ablation"])),
    ]


@pytest.fixture(scope="module")
def parsed(drawn):
    return Page(page(drawn, ["fig2: no <data>"], "python -m figures"))


def test_nothing_is_fetched_and_every_image_is_a_picture(parsed):
    assert not parsed.open and "script" not in parsed.tags
    assert all(not link.startswith(("http", "//")) for link in parsed.links)
    for image in parsed.images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64" and image["alt"].startswith("Fig. 5")
        with Image.open(io.BytesIO(b64decode(data))) as picture:
            assert min(picture.size) > 50
    assert len(parsed.images) == 1


def test_contents_lead_to_every_section(parsed):
    assert [link for link in parsed.links if link.startswith("#")] == ["#fig5", "#table1"]
    assert parsed.ids == ["fig5", "table1", "left_out"]


def test_commands_and_origin_are_told(parsed):
    text = " ".join(" ".join(parsed.text).split())
    for said in (
        "python -m analysis.ablation --x '<b>'",
        "python -m figures table1 --data",
        "0" * 64,
        "torch 2.9",
        "2026-01-01",
        "1449 of voc20, 1449 of scenes",
        "1 that could not be read",
        "fig2: no <data>",
    ):
        assert said in text, said


def test_tables_have_published_beside_measured(parsed, drawn):
    text = [one.strip() for one in parsed.text]
    assert {"measured", "published", "difference"} <= set(text)
    assert "80.9" in text  # VOC20 of ClearCLIP in the paper's Table 1
    assert drawn[1].table.attrs["note"].split(".")[0] in " ".join(text)


def test_the_banner_names_small_models_and_random_weights(drawn):
    assert "small models" in index.banner(drawn) and "Random" not in index.banner(drawn)
    random = [Drawn(drawn[0].entry, {"ablation": dataset(random=("clip_tiny",))}, png=drawn[0].png)]
    assert "Random weights: clip_tiny" in index.banner(random) and "small models" not in index.banner(random)
    real = dataset().assign_coords(architecture=("model", ["open_clip:ViT-B-16-quickgelu/openai"] * 2))
    assert index.banner([Drawn(drawn[0].entry, {"ablation": real})]) == ""


def test_what_repeats_in_a_table_is_left_blank():
    rows = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")], names=["one", "two"])
    parsed = Page(index.as_html(pd.DataFrame({"A<B": [1.25, np.nan, 3]}, rows)))
    assert [text for text in parsed.text if text.strip()] == [
        "one",
        "two",
        "A<B",
        "a",
        "x",
        "1.2",
        "y",
        "b",
        "x",
        "3.0",
    ]


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_shows_it_without_errors(drawn, tmp_path):
    counted = (
        "<script>addEventListener('load', () => { const all = [...document.images];"
        "document.title = all.length + ' images, ' + all.filter(i => i.complete && i.naturalWidth > 50).length + ' shown, '"
        "+ performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length + ' requests'; });</script>"
    )
    file = tmp_path / "index.html"
    file.write_text(page(drawn).replace("</body>", f"{counted}</body>"), encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    options += f"--disable-component-update --disable-sync --user-data-dir={tmp_path / 'profile'} "
    options += "--enable-logging=stderr --dump-dom"
    done = subprocess.run(
        [BROWSER, *options.split(), file.as_uri()], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert "<title>1 images, 1 shown, 0 requests</title>" in done.stdout, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr
