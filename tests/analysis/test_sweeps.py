"""The commands that evaluate many recipes."""

import subprocess
import sys
from importlib import import_module

import pytest
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
def test_commands_draw_a_dataset_again(command, tmp_path, monkeypatch, capsys):
    data = tmp_path / f"{command}.nc"
    sweep(RECIPES[command], ("clip_tiny",), ("scenes",)).to_netcdf(data, engine="h5netcdf")
    monkeypatch.setattr(sys, "argv", ["", "--data", str(data), "--figure", str(tmp_path / "drawn.pdf")])
    import_module(f"analysis.{command}").main()
    printed = capsys.readouterr().out
    assert "clip_tiny" in printed and f"{miou(0, 0, 0):.1f}" in printed
    assert (tmp_path / "drawn.pdf").read_bytes().startswith(b"%PDF") and data.with_suffix(".csv").is_file()


def test_layers_measures_every_layer_of_the_shipped_model(tmp_path):
    output = tmp_path / "layers.nc"
    words = [sys.executable, "-m", "analysis.layers", "--dataset", "scenes", "--limit", "2", "--output", str(output)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    values = by_layer(read(output))
    assert dict(values.sizes) == {"model": 1, "dataset": 1, "layer": 12, "feature": 3}
    assert not values.isnull().any() and output.with_suffix(".png").is_file()
