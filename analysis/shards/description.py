"""The protocol of an export in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ORDER = (
    "pictures in the order of pictures.csv; of each picture the tokens before the patches first, CLS before registers, then the "
    "patches row by row from the upper left"
)
FACTS = {  # in words → what the protocol calls it
    "model": "model",
    "architecture": "architecture",
    "weights": "weights",
    "SHA-256 of the weights": "weights_sha256",
    "random weights": "random_weights",
    "precision of the model": "precision",
    "position embedding resized as by": "positions",
    "preprocessing": "preprocessing",
    "image size in pixels": "image_size",
    "patch size in pixels": "patch_size",
    "rows of patches": "rows",
    "columns of patches": "columns",
    "tokens before the patches": "prefix_tokens",
    "channels": "width",
    "tokens": "tokens",
    "numbers on disk": "dtype",
    "pictures in one forward pass": "batch_size",
    "pictures used": "images",
    "SHA-256 of the list of pictures": "image_list_sha256",
    "SHA-256 of pictures.csv": "pictures_sha256",
    "libraries": "libraries",
    "created": "created",
    "command": "command",
}


def description(about: Mapping[str, Any]) -> str:
    """A protocol as Markdown.

    Args:
        about: the whole of it, as it stands in protocol.json.
    """
    names = [f"{feature}.{layer}" for layer in about["layers"] for feature in about["features"]]
    tensors = "\n".join(f"| `{name}` | tokens × {about['width']} | {about['dtype']} |" for name in names)
    facts = "\n".join(f"| {words} | {_cell(about[name])} |" for words, name in FACTS.items())
    shards = "\n".join(f"| `{part['file']}` | {part['length']:,} | {part['sha256']} |" for part in about["shards"])
    random = (
        "\n**The weights are random: these tokens say nothing about a trained model.**\n"
        if about["random_weights"]
        else ""
    )
    skipped = "".join(f"\n- {_cell(message)}" for message in about["skipped"])
    return f"""# {about["length"]:,} tokens of {about["images"]:,} pictures, {about["model"]}

Format `{about["format"]}`. Each shard is one safetensors file with these tensors, which have as many rows as the shard has tokens:

| tensor | shape | numbers |
|---|---|---|
{tensors}
| `picture` | tokens | int32: which row of pictures.csv, from 0 |
| `token` | tokens | int32: which token of the model's sequence, from 0 |
| `row`, `column` | tokens | int32: where the patch is, from 0 at the upper left; −1 for tokens before the patches |

`X_res` is the input of a block, `X_attn` what its attention adds after projection and LayerScale, `X_sum` their sum. The number
behind it is the layer, counted from 1. Order of the rows: {about["token_order"]}.
{random}
| | |
|---|---|
{facts}

## Reading

```python
import analysis

tokens = analysis.TokenShards("this folder", layer={about["layers"][-1]}, feature="{about["features"][-1]}")
tokens[0], tokens.origin(0)
```

Or with the safetensors library alone: `safe_open(file, framework="pt").get_slice("{names[-1]}")[:100]`.

## Shards

The 16 digits in the name of a file are the first of the SHA-256 of its content.

| file | tokens | SHA-256 |
|---|---|---|
{shards}

## Skipped

{len(about["skipped"])} pictures could not be used.{skipped}
"""


def _cell(value: object) -> str:
    """A value as one cell of a table, whatever stands in it."""
    return " ".join(str(value).split()).replace("|", "\\|")
