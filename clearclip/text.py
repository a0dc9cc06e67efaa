"""Write the text embeddings of class names to a file, with their names and where they came from.

    clearclip text --classes "horse|pony, grass, sky" --model clip_vitb16 --output vectors.safetensors
    clearclip segment photo.jpg --classes "horse, sky" --model clip_vitb16 --text-embeddings vectors.safetensors

With --text-embeddings a matrix without names, such as one that was published, gets those of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clearclip import cli, outputs
from clearclip.errors import UserError


@dataclass(frozen=True)
class Options:
    """Which classes, which model, and where the vectors go."""

    classes: str = ""
    """The classes, with commas between them: "horse, grass, sky"; names of one class are joined with |, and each has a row."""
    models: cli.Models = cli.Models(("clip_vitb16",))
    text: cli.Text = cli.Text()
    output: Path = Path("results/text.safetensors")
    """The file of the vectors, .safetensors."""


def main() -> None:
    """The command `clearclip text`."""
    options = cli.parse(Options, __doc__)
    from clearclip.runs import results
    from clearclip.segmentation.text import class_names, embed
    from clearclip.segmentation.text_embeddings import check_suffix, given_queries, write_text_embeddings

    check_suffix(options.output)
    outputs.refuse_unwritable(options.output)
    names = [name for group in class_names(options.classes) for name in group]
    load, *others = cli.loaders(options.models, cli.Running())
    if others:
        raise UserError(f"{len(others) + 1} models are named: text embeddings are those of one.")
    given, prompts = cli.text_embeddings(options.text), cli.templates(options.text)
    model = load()
    queries = (
        embed(model, list(dict.fromkeys(names)), prompts, cli.text_cache(options.text))
        if given is None
        else given_queries(model, list(dict.fromkeys(names)), given)
    )
    texts = {"prompts": str(prompts)} if given is None else given.provenance()
    about = {key: str(value) for key, value in results.about_model(model).items()} | texts | results.provenance()
    write_text_embeddings(options.output, queries.embeddings, queries.classes, about)
    if model.weights.random:
        print(f"{model.name}: RANDOM WEIGHTS, the vectors say nothing about a trained model")
    print(f"wrote {options.output}: {len(queries.classes)} names, {queries.embeddings.shape[1]} dimensions")


if __name__ == "__main__":
    cli.run(main)
