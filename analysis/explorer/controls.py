"""What stands on the page: gradio's controls, each under the name that it has in `Controls`, and where answers appear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.explorer import pictures, takeaway
from analysis.explorer.answers import NONE, Controls
from analysis.explorer.explain import OFFERED as REASONS
from analysis.explorer.pixels import jpeg
from analysis.explorer.segments import OFFERED
from clearclip.methods.titles import method_label

HERE = Path(__file__).parent
LISTEN = (HERE / "board.js").read_text("utf-8") + "listen(element, (y, x) => trigger('patch', {y: y, x: x}));"
SWITCH = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-head]");
  if (button) trigger("switch", {head: button.dataset.head});
});
"""
PICK = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("pick", {name: button.dataset.name});
});
"""
SIZES = {"each model's usual size": 0, "64 pixels": 64, "128 pixels": 128, "224 pixels": 224, "448 pixels": 448}
AFFINITIES = {
    "q-k, the model's own": "qk",
    "q-q": "qq",
    "k-k": "kk",
    "v-v": "vv",
    "none: each patch itself": "identity",
}
PROMPTS = {"1 template": "photo", "7": "simple", "80, as in the paper": "imagenet"}

Parts = dict[str, Any]  # controls by their names in `Controls`


def thumbnails(examples: Mapping[str, pictures.Example]) -> gr.HTML:
    """The examples, as buttons."""
    buttons = "".join(
        f'<button type="button" data-name="{escape(name)}"><img alt="" src="{jpeg(pictures.square(example.load(), 96))}">'
        f"<span>{escape(name)}</span></button>"
        for name, example in examples.items()
    )
    return gr.HTML(f'<div class="examples">{buttons}</div>', js_on_load=PICK, elem_id="examples")


def models(names: list[str], opening: Controls, others: bool) -> Parts:
    """Which models look, and at which size."""
    choice: Parts = {"allow_custom_value": others, "interactive": True, "min_width": 130}
    with gr.Row():
        parts: Parts = {
            "first": gr.Dropdown(names, value=opening.first, label="Model", elem_id="first", **choice),
            "second": gr.Dropdown([NONE, *names], value=opening.second, label="Beside it", elem_id="second", **choice),
        }
    sizes, label = list(SIZES.items()), "Size at which they look"
    parts["side"] = gr.Dropdown(sizes, value=0, label=label, interactive=True, elem_id="side")
    if others:
        gr.Markdown(
            "Any other model by its name, as clip_vitb16 or dinov2_vits14; its weights are fetched.",
            elem_classes="hint",
        )
    return parts


def look(opening: Controls, depth: int, heads: int) -> Parts:
    """The sliders of the tab Look."""
    with gr.Row():
        return {
            "layer": gr.Slider(
                1, depth, opening.layer, step=1, label="Layer, from the first block to the last", elem_id="layer"
            ),
            "head": gr.Slider(0, heads, 0, step=1, label="Attention head, 0 for the mean of all", elem_id="head"),
        }


def segment(opening: Controls) -> Parts:
    """What is asked in the tab Segment."""
    labels = [(method_label(name), name) for name in OFFERED]
    parts: Parts = {
        "classes": gr.Textbox(opening.classes, label="Classes, with commas between them", elem_id="classes"),
        "ticked": gr.CheckboxGroup(labels, value=list(opening.ticked), label="Recipes", elem_id="recipes"),
    }
    with gr.Row():
        parts["background"] = gr.Checkbox(False, label="A class “background” for unsure pixels", elem_id="background")
        parts["threshold"] = gr.Slider(0, 1, 0.5, step=0.01, label="Background below this score", elem_id="threshold")
    with gr.Accordion("A recipe of your own, and more", open=False):
        parts["own"] = gr.Checkbox(False, label="Show your own: X_res + α · X_attn", elem_id="own")
        with gr.Row():
            parts["alpha"] = gr.Slider(0, 10, 1, step=0.1, label="α: weight of what attention adds", elem_id="alpha")
            parts["beta"] = gr.Slider(
                0, 1, 0, step=0.05, label="β: share of the strongest channels that X_res loses", elem_id="beta"
            )
        with gr.Row():
            parts["affinity"] = gr.Radio(list(AFFINITIES.items()), value="qq", label="Attention", elem_id="affinity")
            parts["residual"] = gr.Checkbox(True, label="with X_res, what the block receives")
            parts["ffn"] = gr.Checkbox(False, label="with the FFN behind it")
        parts["more"] = gr.Textbox(
            "",
            label="Further recipes as on the command line, with ; between them",
            placeholder="clearclip+pamr; sclip alpha=2",
            elem_id="more",
        )
        parts["prompts"] = gr.Radio(
            list(PROMPTS.items()), value="simple", label="Sentences in which a name is asked for"
        )
    return parts


def explain(heads: Sequence[str]) -> Parts:
    """What is switched off in the tab Explain."""
    labels = [(method_label(name), name) for name in REASONS]
    with gr.Row():
        return {
            "reasons": gr.Dropdown(labels, value="clip", label="Recipe", interactive=True, elem_id="reasons"),
            "off": gr.Dropdown(
                list(heads),
                value=[],
                multiselect=True,
                label="Heads that are switched off",
                interactive=True,
                elem_id="off",
            ),
            "further": gr.Textbox(
                "",
                label="Channels and neurons",
                placeholder="layer=6,channel=5,17; layer=2,neuron=40",
                elem_id="further",
            ),
        }


def carry() -> Parts:
    """What is taken away, and the button that makes it."""
    with gr.Row():
        what = gr.Dropdown(
            list(takeaway.KINDS), value="similarity", label="What", elem_id="what", interactive=True, scale=2
        )
        take = gr.Button("Make the figure, the Dataset and the Python", elem_id="take", scale=1)
    label = "Figure (PDF, PNG), Dataset (NetCDF), and the picture as the model sees it"
    files = gr.File(label=label, elem_id="files", file_count="multiple", interactive=False)
    code = gr.Textbox(label="The same in Python", lines=8, interactive=False, buttons=["copy"], elem_id="code")
    return {"what": what, "take": take, "files": files, "code": code}


def read(names: Iterable[str], values: Iterable[Any]) -> Controls:
    """What the controls say."""
    said = dict(zip(names, values, strict=True))
    return Controls(
        **{**said, "side": int(said["side"]) or None, "ticked": tuple(said["ticked"]), "off": tuple(said["off"])}
    )
