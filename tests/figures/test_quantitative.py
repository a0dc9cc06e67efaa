"""Figs. 1 (right), 2, 5, 6, 8 and Tables 1 to 5, from values of a formula."""

import pytest
from sweeps import miou, sweep

from analysis.sweeps import published, recipe_lists
from figures import tables
from figures.catalogue import ENTRIES

RECIPES = {
    "ablation": recipe_lists.ablation(),
    "alpha": recipe_lists.alpha(),
    "beta": recipe_lists.beta(),
    "compare": recipe_lists.compare(),
    "norms_miou": recipe_lists.norms(),
}


@pytest.mark.parametrize("name", ["fig1_radar", "fig2", "fig5", "fig6", "fig8"])
@pytest.mark.parametrize(
    "models, datasets",
    [(("clip_tiny",), ("scenes", "scenes_background")), (("clip_vitb16", "clip_vitl14"), published.BENCHMARKS)],
)
def test_figures_draw_their_own_dataset(name, models, datasets):
    entry = ENTRIES[name]
    figure = entry.draw(sweep(RECIPES[entry.needs[0]], models, datasets, norms=True))
    assert entry.caption.startswith("Fig. ") and entry.caption.endswith(".")
    assert len(figure.axes) >= len(models) and len(figure.legends) == 1
    legend = [text.get_text() for text in figure.legends[0].texts]
    if name != "fig1_radar":
        assert ("published" in legend) == ("clip_vitb16" in models)


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5"])
def test_tables_are_written_three_times_with_the_same_numbers(name, tmp_path):
    entry = ENTRIES[name]
    table = entry.draw(
        sweep(RECIPES[entry.needs[0]], ("clip_vitb16", "clip_tiny"), published.BENCHMARKS, random=("clip_vitb16",))
    )
    paths = tables.write(table, tmp_path / name, entry.caption)
    csv, markdown, latex = (path.read_text() for path in paths)
    assert [path.name for path in paths] == [f"{name}.csv", f"{name}.md", f"{name}.tex"]
    assert len(csv.splitlines()) == len(table) + 1
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == len(table) + 2 and len({row.count("|") for row in rows}) == 1
    assert latex.count(r"\\") == len(table) + 1 and r"\toprule" in latex and "Table" not in latex
    assert latex.count("&") == (len(table) + 1) * (table.index.nlevels + len(table.columns) - 1)
    for text in (markdown, latex):
        assert "1,449" in text and "random weights" in text and "trained on drawn scenes" in text
    first = tables.cells(table)[1]
    assert all(cell in markdown and cell.replace("−", "$-$").replace("_", r"\_") in latex for cell in first)
    assert entry.caption.startswith(f"Table {name[-1]}. ")


def test_table1_has_the_variants_of_q_q():
    table = ENTRIES["table1"].draw(sweep(RECIPES["ablation"], ("clip_vitb16",), published.WITHOUT_BACKGROUND))
    assert len(table) == 12
    assert table.loc[("clip_vitb16", "q-q", "off", "off", "published"), "mean of 5"] == pytest.approx(37.48)
    assert table.loc[("clip_vitb16", "q-q", "off", "off", "measured"), "VOC20"] == miou(0, 0, 7)
    assert table.loc[("clip_vitb16", "q-q", "on", "off", "difference"), "ADE20K"] == pytest.approx(miou(0, 4, 5) - 6.9)


def test_table2_compares_sclip_with_the_run_that_compares_and_keeps_what_is_only_published():
    table = ENTRIES["table2"].draw(
        sweep(RECIPES["compare"], ("clip_vitb16",), ("voc20", "scenes", "scenes_background"))
    )
    assert list(table.columns) == ["VOC20", "Context59", "COCO-Stuff", "Cityscapes", "ADE20K", "scenes", "mean of 5"]
    assert table.loc["SCLIP"].index.tolist() == [("clip_vitb16", "published"), ("clip_vitl14", "published")]
    assert table.loc[("SCLIP*", "clip_vitb16", "difference"), "VOC20"] == pytest.approx(miou(0, 0, 2) - 78.2)
    assert table.loc[("TCL", "ViT-B/16", "published"), "mean of 5"] == pytest.approx(33.08)
    assert table.loc[("NACLIP", "clip_vitb16", "measured"), "scenes"] == miou(0, 1, 9)
    assert not any("+ ClearCLIP" in method for method in table.index.get_level_values("method"))
    assert table.index.get_level_values("method")[:3].tolist() == ["GroupViT", "CoCu", "TCL"]


def test_table3_has_the_datasets_with_background():
    table = ENTRIES["table3"].draw(sweep(RECIPES["compare"], ("clip_tiny",), ("scenes", "scenes_background")))
    assert list(table.columns) == ["VOC21", "Context60", "COCO-Object", "scenes with background", "mean of 3"]
    assert table.loc[("ClearCLIP", "clip_tiny", "measured"), "scenes with background"] == miou(0, 1, 5)
    assert table.loc[("ClearCLIP", "clip_vitb16", "published"), "mean of 3"] == pytest.approx(39.1333, abs=1e-3)


def test_table4_differs_only_where_the_same_eight_were_measured():
    whole = ENTRIES["table4"].draw(sweep(RECIPES["beta"], ("clip_vitb16",), published.BENCHMARKS))
    mean = sum(miou(0, d, 3) for d in range(8)) / 8
    assert whole.loc[("clip_vitb16", 8, "difference"), "30"] == pytest.approx(mean - 37.4)
    part = ENTRIES["table4"].draw(sweep(RECIPES["beta"], ("clip_vitb16",), ("voc20", "scenes")))
    assert part.index.tolist() == [("clip_vitb16", 8, "published"), ("clip_vitb16", 1, "measured")]
    assert part.loc[("clip_vitb16", 1, "measured"), "norm."] == miou(0, 0, 7)


def test_table5_computes_the_means_that_are_misprinted():
    table = ENTRIES["table5"].draw(
        sweep(RECIPES["compare"], ("clip_tiny", "openclip_vitb16"), published.WITHOUT_BACKGROUND)
    )
    assert table.loc[("clip_vitb16", "SCLIP + ClearCLIP", "published"), "mean of 5"] == pytest.approx(37.02)
    assert table.loc[("openclip_vitb16", "ClearCLIP", "difference"), "VOC20"] == pytest.approx(miou(1, 0, 5) - 81.4)
    assert table.loc[("blip_vitb16", "unchanged", "published"), "ADE20K"] == 2.0
    assert len(table.loc["clip_tiny"]) == 8


def test_radar_shows_published_dashed_and_measured_solid():
    figure = ENTRIES["fig1_radar"].draw(sweep(RECIPES["compare"], ("clip_vitb16",), published.BENCHMARKS))
    axes = figure.axes[0]
    assert axes.name == "polar" and len(axes.get_xticks()) == 8
    solid = [line for line in axes.lines if line.get_linestyle() == "-"]
    dashed = [line for line in axes.lines if line.get_linestyle() != "-"]
    assert [line.get_label() for line in solid] == ["CLIP", "MaskCLIP", "ClearCLIP"]
    assert [line.get_label() for line in dashed] == ["CLIP", "MaskCLIP", "TCL", "ClearCLIP"]
    assert {line.get_markerfacecolor() for line in dashed} == {"white"}
    largest = max(80.9, miou(0, 0, 5))
    assert solid[2].get_ydata()[0] == pytest.approx(miou(0, 0, 5) / largest)
    assert dashed[2].get_ydata()[0] == pytest.approx(77.5 / largest)
    assert axes.get_xticklabels()[0].get_text() == f"VOC20\n{largest:.1f}"
    assert solid[0].get_ydata()[0] == solid[0].get_ydata()[-1]  # closed


def test_radar_gives_way_to_bars_where_no_benchmark_was_measured():
    figure = ENTRIES["fig1_radar"].draw(sweep(RECIPES["compare"], ("clip_tiny",), ("scenes", "scenes_background")))
    radar, bars = figure.axes
    assert radar.name == "polar" and "published" in radar.get_title() and "clip_tiny" in bars.get_title()
    assert [bar.get_height() for bar in bars.patches] == [miou(0, d, r) for r in (0, 1, 5) for d in (0, 1)]
    three = ENTRIES["fig1_radar"].draw(sweep(RECIPES["compare"], ("clip_tiny",), ("a", "b", "c")))
    assert [axes.name for axes in three.axes] == ["polar", "polar"]


def test_fig2_takes_the_papers_dataset_where_it_was_measured():
    dataset = sweep(RECIPES["norms_miou"], ("clip_vitb16",), ("voc20", "coco_stuff"), norms=True)
    assert "VOC20" not in ENTRIES["fig2"].draw(dataset).get_supxlabel()
    assert "VOC20" in ENTRIES["fig2"].draw(dataset.sel(dataset=["voc20"])).get_supxlabel()
