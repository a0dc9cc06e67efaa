"""The commands that evaluate many recipes."""

import pytest
from commands import files, here
from sweeps import miou, sweep

from analysis.sweeps import recipe_lists
from analysis.sweeps.read import by_layer, read
from clearclip.methods.recipes import feature_recipe

RECIPES = {
    "ablation": recipe_lists.ablation(),
    "alpha": recipe_lists.alpha(),
    "beta": recipe_lists.beta(),
    "compare": recipe_lists.compare(),
    "layers": [feature_recipe(feature, layer) for layer in (1, 2, 3) for feature in ("X_res", "X_attn", "X_sum")],
}


@pytest.mark.parametrize("command", RECIPES)
def test_commands_draw_a_dataset_again(command, tmp_path):
    data = tmp_path / "data.nc"
    sweep(RECIPES[command], ("clip_tiny",), ("scenes",)).to_netcdf(data, engine="h5netcdf")
    done = here(f"analysis.{command}", "--data", data, "--figure", "drawn.pdf", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "clip_tiny" in done.stdout and f"{miou(0, 0, 0):.1f}" in done.stdout
    assert (tmp_path / "drawn.pdf").read_bytes().startswith(b"%PDF") and files(tmp_path) == ["data.nc", "drawn.pdf"]


def test_layers_measures_every_layer_of_the_shipped_model(tmp_path):
    words = (
        "--dataset",
        "scenes",
        "--limit",
        "2",
        "--prompts",
        "photo",
        "--text-cache",
        "texts",
        "--output",
        "layers.nc",
    )
    done = here("analysis.layers", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = by_layer(read(tmp_path / "layers.nc"))
    assert dict(values.sizes) == {"model": 1, "dataset": 1, "layer": 6, "feature": 3}
    assert not values.isnull().any() and files(tmp_path) == ["layers.csv", "layers.nc", "layers.png"]
