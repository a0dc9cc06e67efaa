"""The page: the explorer's answers behind gradio's controls, and the server that shows it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.explorer import answers, controls, pictures, takeaway
from analysis.explorer.answers import NONE, Controls, Visit
from analysis.explorer.pictures import Example
from analysis.explorer.shelf import Shelf
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone

MOST_BYTES = "20mb"  # of an upload
FORGOTTEN = 3600  # seconds after which files and visits that nobody uses are dropped
GUIDE = (
    "**Click on the cat.** The brighter a patch, the more the model takes it for the same thing. "
    "Then move the layer slider, and watch what changes from the first block to the last."
)
OPACITY = "(value) => document.documentElement.style.setProperty('--opacity', value)"
READABLE = {  # gradio's own grays are too faint to be read by everybody
    "body_text_color_subdued": "#52525b",
    "body_text_color_subdued_dark": "#b8b8c0",
    "block_label_text_color": "#3f3f46",
    "block_label_text_color_dark": "#d4d4d8",
    "block_title_text_color": "#3f3f46",
    "block_title_text_color_dark": "#d4d4d8",
    "link_text_color": "#1d4ed8",
    "link_text_color_dark": "#93c5fd",
    "input_placeholder_color": "#5f5f68",
    "input_placeholder_color_dark": "#b8b8c0",
}
ANSWERS = {"look": answers.look, "segment": answers.segment, "explain": answers.explain}  # what each tab shows


@dataclass(frozen=True)
class Page:
    """What the page does when something on it is touched.

    Args:
        shelf: the models.
        examples: the pictures that are offered.
        names: of the controls, in the order in which gradio hands over their values.
    """

    shelf: Shelf
    examples: Mapping[str, Example]
    names: tuple[str, ...] = ()

    def show(self, tab: str, visit: Visit, *values: Any) -> list[Any]:
        """The answer of the tab that is open; the others stay as they are."""
        said = controls.read(self.names, values)
        return [answer(self.shelf, visit, said) if name == tab else gr.skip() for name, answer in ANSWERS.items()]

    def point(self, event: gr.EventData, visit: Visit) -> Visit:
        """A click on a patch."""
        return visit.point_at(float(event.y), float(event.x))

    def pick(self, event: gr.EventData, before: Visit) -> list[Any]:
        """Another example, with names of what is on it."""
        name = str(event.name)
        self.forget(before)
        example = self.examples[name]
        return [Visit(example.load(), name, example.at), example.classes, ""]

    def bring(self, file: str, before: Visit) -> list[Any]:
        """A picture of the visitor's own."""
        try:
            picture = pictures.uploaded(Path(file))
        except UserError as error:
            return [before, f"**{escape(str(error).replace(file, Path(file).name))}**"]
        self.forget(before)
        note = "Your picture stays in this computer's memory while you look at it, and is not written to disk."
        return [Visit(picture, "your picture", own=True), note]

    def forget(self, visit: Visit | None) -> None:
        """Drop what was made of a picture that a visitor brought."""
        if visit is not None and visit.own:
            self.shelf.forget(visit.picture)

    def switch(self, event: gr.EventData, off: list[str]) -> list[str]:
        """A head switched off, or on again."""
        return [head for head in off if head != event.head] if event.head in off else [*off, str(event.head)]

    def fit(self, first: str, second: str, layer: int, head: int) -> list[Any]:
        """Sliders as long as the models are deep, the heads that they have, and a sign that this is done."""
        try:
            models = [self.shelf.model(name) for name in Controls(first, second).models]
            depth, heads = max(model.depth for model in models), max(model.heads for model in models)
        except UserError as error:
            return [object(), gr.skip(), gr.skip(), gr.skip(), f"**{escape(str(error))}**"]
        return [
            object(),
            gr.Slider(maximum=depth, value=min(layer, depth)),
            gr.Slider(maximum=heads, value=min(head, heads)),
            gr.Dropdown(choices=heads_of(models), value=[]),
            "",
        ]

    def take(self, what: str, visit: Visit, *values: Any) -> list[Any]:
        """Files and lines of Python."""
        folder = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))
        try:
            taken = takeaway.take(self.shelf, visit, controls.read(self.names, values), what, folder)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return [[str(file) for file in taken.files], taken.code]


def heads_of(models: Sequence[Backbone]) -> list[str]:
    """All heads that can be switched off, last layers first."""
    depth, heads = max(model.depth for model in models), max(model.heads for model in models)
    return [f"layer {layer} head {head}" for layer in range(depth, 0, -1) for head in range(1, heads + 1)]


def build(shelf: Shelf, examples: Mapping[str, Example], start: str) -> gr.Blocks:
    """The page, with everything on it as it is when it opens.

    Args:
        shelf: the models; the first two are looked at first.
        examples: the pictures that are offered.
        start: the one that is shown first.
    """
    names, example = list(shelf.loaders), examples[start]
    seen = [shelf.model(name) for name in names[:2]]
    depth, heads = max(model.depth for model in seen), max(model.heads for model in seen)
    opening = Controls(names[0], names[1] if names[1:] else NONE, layer=depth, classes=example.classes)
    first_visit = Visit(example.load(), start, example.at)
    page = Page(shelf, examples)
    with gr.Blocks(title="What does the model see?", analytics_enabled=False, delete_cache=(600, FORGOTTEN)) as blocks:
        visit = gr.State(first_visit, time_to_live=FORGOTTEN, delete_callback=page.forget)
        tab, fitted = gr.State("look"), gr.State()
        gr.Markdown(f"# What does the model see?\n\n{GUIDE}")
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                thumbnails = controls.thumbnails(examples)
                upload = gr.UploadButton(
                    "Upload a picture of your own", file_types=["image"], size="sm", elem_id="upload"
                )
                note = gr.Markdown("", elem_id="note")
            with gr.Column(scale=2, min_width=280):
                parts = controls.models(names, opening, shelf.others is not None)
        tabs, boards = {}, []
        with gr.Tabs():
            with gr.Tab("Look", elem_id="tab-look") as tabs["look"]:
                parts |= controls.look(opening, depth, heads)
                boards.append(
                    gr.HTML(answers.look(shelf, first_visit, opening), js_on_load=controls.LISTEN, elem_id="look")
                )
            with gr.Tab("Segment", elem_id="tab-segment") as tabs["segment"]:
                parts |= controls.segment(opening)
                opacity = gr.Slider(0, 1, 0.62, step=0.01, label="Opacity of the colors", elem_id="opacity")
                boards.append(gr.HTML("", js_on_load=controls.LISTEN, elem_id="segment"))
            with gr.Tab("Explain", elem_id="tab-explain") as tabs["explain"]:
                parts |= controls.explain(heads_of(seen))
                boards.append(gr.HTML("", js_on_load=controls.LISTEN + controls.SWITCH, elem_id="explain"))
        with gr.Accordion("Take away what you see", open=False):
            carried = controls.carry()

        page = replace(page, names=tuple(parts))
        # one after another, or the answer to an older question could come last, and stay: models run one at a time anyway
        quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 1}
        latest: dict[str, Any] = {**quick, "trigger_mode": "always_last"}
        # gradio forgets what a click says where it keeps only the latest, so all of them are answered
        ordered: dict[str, Any] = {**quick, "trigger_mode": "multiple", "concurrency_id": "clicks"}
        touched = [visit.change, tab.change, fitted.change]
        for name, part in parts.items():
            if name in ("classes", "more", "further"):
                touched += [part.submit, part.blur]
            elif name not in ("first", "second"):
                touched.append(part.change)
        gr.on(touched, page.show, [tab, visit, *parts.values()], boards, **latest)
        first, second, layer, head = (parts[name] for name in ("first", "second", "layer", "head"))
        outputs = [fitted, layer, head, parts["off"], note]
        gr.on([first.change, second.change], page.fit, [first, second, layer, head], outputs, **latest)
        for board in boards:
            board.patch(page.point, visit, visit, **ordered)
        thumbnails.pick(page.pick, visit, [visit, parts["classes"], note], **ordered)
        upload.upload(page.bring, [upload, visit], [visit, note], **ordered)
        for name, opened in tabs.items():
            opened.select(lambda name=name: name, None, tab, **ordered)
        boards[-1].switch(page.switch, parts["off"], parts["off"], **ordered)
        opacity.input(None, opacity, js=OPACITY)
        carried["take"].click(
            page.take,
            [carried["what"], visit, *parts.values()],
            [carried["files"], carried["code"]],
            **{**quick, "show_progress": "minimal", "concurrency_limit": 4},
        )
    return blocks


def serve(blocks: gr.Blocks, host: str, port: int | None, browser: bool) -> None:
    """Show the page until it is stopped.

    Args:
        host: the address that is listened on.
        port: the port; None for the first free one from 7860 on.
        browser: open it in the browser.
    """
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none is fetched
    blocks.queue(max_size=64)
    css = (controls.HERE / "board.css").read_text("utf-8") + (controls.HERE / "page.css").read_text("utf-8")
    _, here, _ = blocks.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        quiet=True,
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=MOST_BYTES,
        footer_links=[],
        theme=gr.themes.Base(**fonts).set(**READABLE),
        css=css,
        prevent_thread_lock=True,
    )
    print(f"the explorer is at {here} (Ctrl-C stops it)", flush=True)
    blocks.block_thread()
