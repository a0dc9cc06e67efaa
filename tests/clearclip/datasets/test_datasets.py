from pathlib import Path

import numpy as np
import pytest
from commands import here, process
from layouts import ade20k, camvid, cityscapes, coco, context_mat, context_png, folder, photo, shared, voc, write
from PIL import Image

from clearclip.datasets import BENCHMARKS, facts, known, load
from clearclip.datasets.benchmark import class_names
from clearclip.datasets.integrity import check
from clearclip.errors import UserError
from clearclip.pictures import BadImage

# Raw ids beside the names (standard) that the data sets' own documents give them; None is an ignored pixel.
PUBLISHED = [
    ("voc21", voc, {0: "background", 1: "aeroplane", 4: "boat", 11: "diningtable", 20: "tvmonitor", 255: None}),
    ("voc20", voc, {0: None, 1: "aeroplane", 4: "boat", 11: "diningtable", 20: "tvmonitor", 255: None}),
    ("context60", context_png, {0: "background", 1: "aeroplane", 2: "bag", 37: "person", 59: "wood", 255: None}),
    ("context59", context_png, {0: None, 1: "aeroplane", 2: "bag", 37: "person", 59: "wood", 255: None}),
    (
        "context60",
        context_mat,  # from the labels.txt of the 459 classes
        {1: "background", 2: "aeroplane", 9: "bag", 31: "boat", 44: "building", 80: "cloth", 187: "grass", 284: "person",
         349: "shelves", 360: "sky", 397: "table", 431: "background", 454: "window", 458: "wood", 459: "background"},
    ),
    (
        "context59",
        context_mat,
        {1: None, 2: "aeroplane", 19: "bedclothes", 65: "cat", 85: "computer", 98: "cow", 113: "dog", 115: "door",
         207: "horse", 308: "pottedplant", 415: "track", 416: "train", 427: "tvmonitor", 440: "wall", 431: None},
    ),
    (
        "coco_stuff",
        coco,  # COCO category ids minus 1
        {0: "person", 10: "fire hydrant", 12: "stop sign", 27: "umbrella", 30: "handbag", 43: "bottle", 45: "wine glass",
         66: "dining table", 69: "toilet", 71: "tv", 83: "book", 89: "toothbrush", 91: "banner", 111: "door-stuff",
         172: "wall-other", 181: "wood", 255: None},
    ),
    (
        "coco_object",
        coco,
        {0: "person", 10: "fire hydrant", 45: "wine glass", 66: "dining table", 89: "toothbrush", 91: "background",
         172: "background", 181: "background", 255: "background"},
    ),
    (
        "cityscapes",
        cityscapes,  # labels.py of the cityscapesScripts
        {0: None, 3: None, 7: "road", 8: "sidewalk", 9: None, 11: "building", 12: "wall", 13: "fence", 14: None,
         17: "pole", 18: None, 19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
         24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: None, 30: None, 31: "train",
         32: "motorcycle", 33: "bicycle"},
    ),
    ("camvid", camvid, {0: "sky", 1: "building", 2: "pole", 4: "pavement", 6: "sign symbol", 10: "bicyclist", 11: None}),
    ("ade20k", ade20k, {0: None, 1: "wall", 2: "building", 45: "chest of drawers", 104: "ship", 150: "flag"}),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, layout, meaning", PUBLISHED, ids=lambda v: getattr(v, "__name__", v if v in known() else "")
)
def test_raw_ids_mean_what_the_data_sets_documents_say(tmp_path, name, layout, meaning):
    dataset = load(name, layout(tmp_path, list(meaning)), names="standard")
    image, label, _ = dataset[0]
    assert image.mode == "RGB" and label.shape == (image.height, image.width) and label.dtype == np.uint8
    assert [None if i == 255 else dataset.classes[i] for i in label[0]] == list(meaning.values())
    assert (label[1] == label[0]).all()


@pytest.mark.parametrize("name, size", [("voc20", 20), ("voc21", 21), ("context59", 59), ("context60", 60),
    ("coco_object", 81), ("coco_stuff", 171), ("cityscapes", 19), ("camvid", 11), ("ade20k", 150)])  # fmt: skip
def test_every_class_has_a_name_of_its_own_and_every_raw_id_one_class(tmp_path, name, size):
    raw = range(1, 20) if name == "cityscapes" else [1]
    layouts = {"voc": voc, "con": context_png, "coc": coco, "cit": cityscapes, "cam": camvid, "ade": ade20k}
    dataset = load(name, layouts[name[:3]](tmp_path, list(raw)))
    classes = [cls for cls in dataset.lookup if cls not in (-1, 255)]
    assert len(dataset.classes) == len(set(dataset.classes)) == size and set(classes) == set(range(size))
    assert sum(cls != 0 for cls in classes) == size - 1
    assert ("background" in dataset.classes[:1]) == (name in ("voc21", "context60", "coco_object"))


def test_class_names_of_the_published_run_differ_only_where_the_paper_says():
    voc_changes = {a: b for a, b in zip(*both("voc"), strict=True) if a != b}
    assert voc_changes == {"boat": "ship", "diningtable": "table"}
    for file in ("ade20k", "cityscapes", "coco_stuff"):
        standard, published = both(file)
        assert any(" " in name for name in standard)
        assert [name.replace(" ", "") for name in standard] == published
    for file in ("context", "coco_object"):
        standard, published = both(file)
        assert standard == published
    assert {"chestofdrawers", "trafficlight"} <= set(class_names("ade20k"))
    assert {"firehydrant", "door-stuff", "wall-other"} <= set(class_names("coco_stuff"))


def both(file):
    return class_names(file, "standard"), class_names(file, "clearclip")


def test_context_takes_converted_labels_first_and_cityscapes_original_ones(tmp_path):
    context_png(context_mat(tmp_path / "context", [2, 458]), [1, 59])
    assert load("context60", tmp_path / "context")[0].label[0].tolist() == [1, 59]
    root = cityscapes(tmp_path / "city", [0, 18, 255], "labelTrainIds")
    assert load("cityscapes", root)[0].label[0].tolist() == [0, 18, 255]
    assert load("cityscapes", cityscapes(root, [7, 33, 4]))[0].label[0].tolist() == [0, 18, 255]


def test_other_places_of_the_same_files(tmp_path):
    root = voc(tmp_path, [1])
    for inner in (root, root / "VOCdevkit", root / "VOCdevkit/VOC2012"):
        assert load("voc20", inner).pairs[0].name == "2007_000033"
    assert len(load("coco_stuff", coco(tmp_path / "coco", [0], "val2017", "stuffthingmaps/val2017"))) == 1
    assert load("ade20k", ade20k(tmp_path, [1]) / "ADEChallengeData2016").pairs[0].name == "ADE_val_00000001"


@pytest.mark.parametrize("classes, expected", [
    (["void", "cat", "dog"], [255, 0, 1, 255]),
    (["cat", "Unlabelled", "dog"], [0, 255, 1, 255]),
    (["0\tcat", "1\ttraffic light", "2\tdog"], [0, 1, 2, 255]),
    (["2\tdog", "0\tignore", "1\tcat"], [255, 0, 1, 255]),
])  # fmt: skip
def test_folder_ignores_what_is_called_void_and_closes_the_gap(tmp_path, classes, expected):
    dataset = load("folder", folder(tmp_path, [0, 1, 2, 255], *classes))
    assert dataset[0].label[0].tolist() == expected
    assert dataset.name == tmp_path.name and dataset.classes[-1] == "dog"


@pytest.mark.parametrize("classes", [["1\tcat", "dog"], ["1\tcat", "1\tdog"], ["x\tcat"], ["300\tcat"], [""]])
def test_folder_names_the_line_that_is_not_a_class(tmp_path, classes):
    with pytest.raises(UserError, match=r"classes\.txt.*(not a|no) class"):
        load("folder", folder(tmp_path, [0], *classes))


def test_folder_refuses_two_pictures_with_one_label(tmp_path):
    photo(folder(tmp_path, [0], "cat") / "images/a.png", 1)
    with pytest.raises(UserError, match="share one label"):
        load("folder", tmp_path)


def test_16_bit_and_bilevel_labels_are_read(tmp_path):
    folder(tmp_path, [0, 1], "cat", "dog")
    for image in (Image.fromarray(np.array([[0, 1], [1, 0]], np.uint16)), Image.fromarray(np.eye(2) < 1)):
        image.save(tmp_path / "labels/a.png")
        assert load("folder", tmp_path)[0].label.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_or_half_unpacked_folder_is_told_with_what_is_expected(tmp_path, name):
    with pytest.raises(UserError, match="no such folder"):
        load(name, tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"(?s)half unpacked.*found: notes\.txt.*missing: .*expected:\n  \w+"):
        load(name, tmp_path)


def test_a_folder_without_some_labels_is_refused_unless_the_complete_pairs_will_do(tmp_path):
    base = ade20k(tmp_path, [1]) / "ADEChallengeData2016"
    photo(base / "images/validation/ADE_val_00000002.jpg", 1)
    write(base / "annotations/validation/ADE_val_00000003.png", [[1]])
    with pytest.raises(UserError) as refused:
        load("ade20k", tmp_path)
    told = str(refused.value)
    assert "1 of 3 pairs" in told and "partial=True" in told
    assert "annotations/validation/ADE_val_00000002.png, images/validation/ADE_val_00000003.jpg" in told
    dataset = load("ade20k", tmp_path, partial=True)
    assert len(dataset) == 1 and len(dataset.missing) == 2


def half(path):
    write(path, np.random.default_rng(0).integers(0, 2, (99, 99)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_constructing_reads_no_picture(tmp_path):
    root = voc(tmp_path, [1])
    for path in (*root.rglob("*.jpg"), *root.rglob("*.png")):
        path.write_bytes(b"")
    assert len(load("voc20", root)) == 1


@pytest.mark.parametrize("spoil, message", [
    (lambda root: (root / "images/a.jpg").write_bytes(b"no"), "a.jpg: no picture"),
    (lambda root: (root / "labels/a.png").write_bytes(b"no"), "a.png: no picture"),
    (lambda root: half(root / "labels/a.png"), "a.png: .*truncated"),
    (lambda root: photo(root / "labels/a.png", 2), r"a.png: its pixels are colours \(RGB\)"),
    (lambda root: write(root / "labels/a.png", [[0, 0, 0]]), r"a.png: the label is 3 × 1 and the picture 2 × 2"),
    (lambda root: write(root / "labels/a.png", [[0, 7], [9, 7]]), "a.png: label values outside the table: 7, 9"),
])  # fmt: skip
def test_broken_files_are_named(tmp_path, spoil, message):
    spoil(folder(tmp_path, [0, 1], "cat", "dog"))
    with pytest.raises(BadImage, match=message):
        load("folder", tmp_path)[0]


def test_label_values_outside_the_tables_are_named(tmp_path):
    for name, layout, strange in [("coco_stuff", coco, 11), ("coco_object", coco, 182), ("ade20k", ade20k, 151),
                                  ("cityscapes", cityscapes, 34),
                                  ("camvid", camvid, 12), ("voc21", voc, 21), ("context60", context_mat, 460)]:  # fmt: skip
        (tmp_path / name).mkdir()
        with pytest.raises(BadImage, match=f"outside the table: {strange}"):
            load(name, layout(tmp_path / name, [strange]))[0]


def test_a_broken_mat_is_named(tmp_path):
    root = context_mat(tmp_path, [2])
    next(root.rglob("*.mat")).write_bytes(b"MATLAB 5.0")
    with pytest.raises(BadImage, match=r"2008_000002\.mat: no \.mat file"):
        load("context59", root)[0]


@pytest.mark.parametrize("arguments, message", [
    (("voc2", "."), "closest are voc2"),
    (("voc20",), "name its folder"),
    (("voc20", ".", "mine"), "standard or clearclip"),
    (("voc20", ".", "standard", "test"), "val or train or trainval"),
    (("scenes", None, "standard", "dev"), "split is 'dev'"),
])  # fmt: skip
def test_mistakes_are_answered_with_what_is_allowed(arguments, message):
    with pytest.raises(UserError, match=message):
        load(*arguments)


def test_voc_is_downloaded_through_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import voc as module

    monkeypatch.setattr(module, "download_and_extract_archive", lambda url, root, **_: voc(Path(root), [1, 0]))
    assert load("voc20", tmp_path, download=True)[0].label[0].tolist() == [0, 255]

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(module, "download_and_extract_archive", offline)
    with pytest.raises(UserError, match=r"no route to host.*VOCtrainval_11-May-2012\.tar"):
        load("voc20", tmp_path / "other", download=True)


def test_nothing_else_is_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"ade20k cannot be downloaded.*docs/guide/benchmarks\.md"):
        load("ade20k", tmp_path, download=True)
    for name in ("folder", "scenes"):
        with pytest.raises(UserError, match=f"{name} cannot be downloaded"):
            load(name, tmp_path, download=True)


@pytest.mark.parametrize("name", known())
def test_facts_and_classes_agree(name):
    if name in BENCHMARKS:
        assert BENCHMARKS[name].facts is facts(name) and bool(facts(name).printed) == (name != "camvid")
        classes = BENCHMARKS[name].class_names()
    else:
        classes = load(name, count=1).classes if name != "folder" else ["anything"]
    assert facts(name).background == (classes[0] == "background")
    assert not facts(name).threshold or facts(name).background
    assert facts(name).title.lower().replace("-", "_").split()[0].rstrip(",") == name.removesuffix(
        "_background"
    ).removesuffix("_things")


def test_scenes_are_a_data_set_too():
    dataset = load("scenes", count=3)
    assert len(dataset) == 3 and dataset[0].label.max() < len(dataset.classes)


def test_check_counts_pixels_like_numpy(tmp_path):
    root = folder(tmp_path, [0, 1, 1, 255], "cat", "dog", "cow")
    report = check(load("folder", root))
    assert report.pixels.tolist() == [2, 4, 0] and report.ignored == 2 and report.sizes == {(4, 2): 1}
    assert "2 of 3 classes occur; 25.0%" in report.lines()[1] and report.lines()[2] == "never: cow"


def test_the_command_on_a_whole_a_faulty_and_a_missing_folder(tmp_path):
    root = folder(tmp_path / "own", [0, 1, 255], "cat", "dog")
    done = process("-m", "clearclip.datasets", "check", "folder", root, cwd=tmp_path)
    assert done.returncode == 0 and "no faults" in done.stdout, done.stderr
    assert Image.open(tmp_path / "results/datasets/own_val.png").width > 500

    photo(root / "images/b.jpg", 3)  # without label
    photo(root / "images/c.jpg", 4)
    write(root / "labels/c.png", [[9]])  # of another size
    done = here("clearclip.datasets", "check", "folder", root, "--sheet", tmp_path / "sheet.png", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "b.png: missing" in done.stdout and "c.png: the label is 1 × 1" in done.stdout and "faults: 2" in done.stdout

    done = here("clearclip.datasets", "check", "ade20k", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and "annotations/validation" in done.stderr and "Traceback" not in done.stderr


def test_the_command_counts_against_the_published_number_and_lists_data_sets(tmp_path):
    done = here("clearclip.datasets", "check", "voc21", voc(tmp_path, [0, 5, 255]), "--names", "standard", cwd=tmp_path)
    assert done.returncode == 1 and "fault: 1 complete pairs, published are 1449" in done.stdout, done.stderr
    listed = here("clearclip.datasets", "list", cwd=tmp_path)
    assert listed.returncode == 0 and all(name in listed.stdout for name in known())


def test_real_coco_stuff_labels():
    root = shared("coco_stuff")
    stuff, things = load("coco_stuff", root, names="standard"), load("coco_object", root)
    gaps = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91]  # category ids that COCO does not have
    for one, other in zip(stuff, things, strict=True):
        raw = np.asarray(Image.open(root / "annotations/val2017" / f"{one.name}.png")).astype(int)
        assert not np.isin(raw + 1, gaps).any() and one.label.shape == raw.shape
        for value in np.unique(raw):
            expected = 255 if value == 255 else value - sum(gap < value + 1 for gap in gaps)
            assert (one.label[raw == value] == expected).all()
            assert (other.label[raw == value] == (expected + 1 if expected < 80 else 0)).all()
    skier = stuff[[pair.name for pair in stuff.pairs].index("000000000785")].label
    assert {"person", "skis", "snow"} <= {stuff.classes[i] for i in np.unique(skier[skier != 255])}


def test_real_ade20k_labels_and_the_names_that_come_with_them():
    root = shared("ade20k")
    rows = [line.split("\t") for line in (root / "objectInfo150.txt").read_text().splitlines()[1:] if line.strip()]
    listed = [row[4].split(", ") for row in rows]
    names = class_names("ade20k", "standard")
    assert all(name in [synonym.strip() for synonym in synonyms] for name, synonyms in zip(names, listed, strict=True))
    for image, label, name in load("ade20k", root):
        raw = np.asarray(Image.open(root / f"annotations/validation/{name}.png"))
        assert label.shape == (image.height, image.width) and (label == raw - np.uint8(1)).all()  # 0 wraps to 255


def test_camvid_has_three_splits_and_stays_out_of_the_papers_eight(tmp_path):
    assert load("camvid", camvid(tmp_path, [3], "test"), split="test").published == (233,)
    assert not BENCHMARKS["camvid"].facts.printed and not BENCHMARKS["camvid"].facts.background
    assert sum(bool(kind.facts.printed) for kind in BENCHMARKS.values()) == 8


def test_real_camvid_labels():
    root = shared("camvid")
    dataset = load("camvid", root, split="test")
    seen = set()
    for image, label, name in dataset:
        raw = np.asarray(Image.open(root / f"testannot/{name}.png"))
        assert image.size == (480, 360) and (label == np.where(raw == 11, 255, raw)).all()
        seen |= set(np.unique(label).tolist())
    assert seen >= {*range(9), 255}
    upper = np.concatenate([sample.label[:60].ravel() for sample in dataset])  # streets have the sky above
    assert np.mean(np.isin(upper, [dataset.classes.index(name) for name in ("sky", "building", "tree")])) > 0.8


def test_real_msrc_labels():
    root = shared("msrc")
    dataset = load("folder", root)
    assert dataset.classes[:3] == ["building", "grass", "tree"] and len(dataset.classes) == 23 and len(dataset) > 290
    for index in range(0, len(dataset), 15):
        sample = dataset[index]
        raw = np.asarray(Image.open(root / "labels" / f"{sample.name}.png"))
        assert (sample.label == raw - np.uint8(1)).all()  # 0 wraps to 255
