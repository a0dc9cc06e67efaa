"""The two small models: the library's own classes, exact storage, an honest vocabulary, and the measured quality."""

import numpy as np
import open_clip
import pytest
import torch
import xarray as xr
from open_clip import OPENAI_IMAGENET_TEMPLATES
from safetensors.torch import load_file

from clearclip.datasets import DRAWN
from clearclip.datasets.drawn.captions import Caption
from clearclip.datasets.drawn.scenes import Scenes
from clearclip.datasets.drawn.textures import STUFF
from clearclip.datasets.drawn.things import THINGS
from clearclip.runs import results
from clearclip.zoo import (
    CLIP_TINY,
    DINO_TINY,
    EMBEDDING,
    WEIGHTS,
    build_clip_tiny,
    build_dino_tiny,
    save_clip_tiny,
    save_dino_tiny,
    tokenizer,
    unknown_words,
    vocabulary,
)
from clearclip.zoo.measure import Exam, ious
from clearclip.zoo.pictures import drawn, normalise
from clearclip.zoo.quality import contents, features, knn, naming, pictures
from clearclip.zoo.study import Config as StudyConfig
from clearclip.zoo.study import main as study
from clearclip.zoo.train_clip import Blinds, contrastive_loss, false_negatives, kinds, progress, renew
from clearclip.zoo.train_clip import Config as ClipConfig
from clearclip.zoo.train_clip import main as train_clip
from clearclip.zoo.train_dino import Config as DinoConfig
from clearclip.zoo.train_dino import balanced, crops, distillation_loss, look, most_alike
from clearclip.zoo.train_dino import main as train_dino
from clearclip.zoo.training import learning_rate, optimizer


@pytest.fixture(scope="module")
def single():
    return Scenes("test", 200, seed=7, kind="single")


@pytest.fixture(scope="module")
def clip():
    return build_clip_tiny()


@pytest.fixture(scope="module")
def dino():
    return build_dino_tiny()


def test_the_libraries_own_classes(clip, dino):
    assert type(clip) is open_clip.model.CLIP and type(dino).__module__.startswith("timm.")
    assert len(clip.visual.transformer.resblocks) == len(dino.blocks) == 6
    for model in (clip, dino):
        assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_same_visual_architecture(clip, dino):
    """The same number of weights of the same sizes, but for CLIP's projection into the space of texts."""
    shapes = {name: p.numel() for name, p in clip.visual.named_parameters()}
    assert shapes.pop("proj") == 96 * CLIP_TINY["embed_dim"]
    assert sorted(shapes.values()) == sorted(p.numel() for p in dino.parameters())


def test_a_blind_cls_token_sees_no_patches_and_the_patches_see_all():
    """Blind in all blocks, the picture's embedding does not depend on the picture; seeing again, nothing is left of it."""
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CLIP_TINY).eval()
    one, other = torch.randn(2, 1, 3, 64, 64)
    with torch.inference_mode():
        before = model.encode_image(one)
        blinds = Blinds(model.visual.transformer.resblocks)
        torch.testing.assert_close(model.encode_image(one), before)
        blinds.count = 6
        torch.testing.assert_close(model.encode_image(one), model.encode_image(other))
        blinds.count = 5
        assert not torch.allclose(model.encode_image(one), model.encode_image(other), atol=1e-3)


def test_renewing_touches_the_last_block_and_the_projection_only():
    model = open_clip.model.CLIP(**CLIP_TINY)
    adam = optimizer(model, 0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.encode_image(torch.randn(2, 3, 64, 64)).sum().backward()
    adam.step()
    for group in adam.param_groups:
        group["lr"] = 0.0
    stepped = {name: value.clone() for name, value in model.state_dict().items()}
    renew(model, adam, query_gain=2.0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, stepped[name])}
    assert changed and all(name.startswith(("visual.transformer.resblocks.5.", "visual.proj")) for name in changed)
    assert before.keys() == model.state_dict().keys()
    q, k, _ = model.visual.transformer.resblocks[-1].attn.in_proj_weight.detach().chunk(3)
    assert q.std() / k.std() == pytest.approx(2, rel=0.1)
    assert not any(p in adam.state for p in model.visual.transformer.resblocks[-1].parameters())


def test_the_second_part_of_the_curriculum_replaces_the_first():
    config = ClipConfig(first=("single",), then=("few",), change=(10, 20), batch=200)
    assert [progress(config, step) for step in (0, 10, 15, 20, 99)] == [0, 0, 0.5, 1, 1]
    share = [kinds(config, step, np.random.default_rng(0)).count("few") / 200 for step in (5, 15, 25)]
    assert share[0] == 0 and 0.4 < share[1] < 0.6 and share[2] == 1


def test_both_files_together_fit():
    assert sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors")) <= 6_000_000
    for file in WEIGHTS.glob("*.safetensors"):
        assert {value.dtype for value in load_file(file).values()} <= {torch.float16, torch.int32}


def test_writing_and_reading_give_the_same_model(tmp_path):
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CLIP_TINY).half().float().eval()
    save_clip_tiny(model, tmp_path / "c.safetensors")
    again = build_clip_tiny(tmp_path / "c.safetensors")
    tokens, image = tokenizer()(["a photo of a zebra on sand."]), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.encode_text(tokens), again.encode_text(tokens))
        assert torch.equal(model.encode_image(image), again.encode_image(image))
    unknown = torch.ones(49408, dtype=torch.bool).index_fill(0, vocabulary(), False)
    assert not again.state_dict()[EMBEDDING][unknown].any()


def test_dino_is_read_as_it_was_written(tmp_path, dino):
    save_dino_tiny(dino, tmp_path / "d.safetensors")
    again = build_dino_tiny(tmp_path / "d.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(dino.parameters(), again.parameters(), strict=True))


def test_foreign_weights_are_refused():
    with pytest.raises(RuntimeError, match="Missing key"):
        build_dino_tiny(WEIGHTS / "clip_tiny.safetensors")


def test_the_tokenizer_is_open_clips_own():
    text = ["a red ball on sand"]
    assert torch.equal(tokenizer()(text), open_clip.tokenize(text, context_length=32))


def test_every_caption_and_prompt_is_in_the_vocabulary():
    scenes = Scenes("train", 150)
    texts = [c.text for i in range(150) for c in scenes.captions(i)]
    texts += [template(name) for template in OPENAI_IMAGENET_TEMPLATES for name in (*THINGS, *STUFF)]
    tokens = tokenizer()(texts)
    assert set(tokens.unique().tolist()) <= set(vocabulary().tolist())
    assert (tokens[:, -1] == 0).all(), "a text fills the context, so it may have been cut"


def test_unknown_words():
    assert unknown_words([*THINGS, *STUFF, "a red ball", "Zebra"]) == []
    assert unknown_words(["traffic light", "zebra", "traffic"]) == ["traffic", "light"]


def test_a_caption_true_of_another_picture_is_no_negative():
    captions = [Caption("a ball", ("ball",)), Caption("a red ball on sand", ("ball", "red ball", "sand"))]
    truths = [("ball", "blue ball", "sand"), ("ball", "red ball", "sand")]
    assert false_negatives(captions, truths).tolist() == [[False, True], [False, False]]


def test_contrastive_loss_is_open_clips_own():
    image, text = torch.nn.functional.normalize(torch.randn(2, 6, 8), dim=-1)
    scale = torch.tensor(7.0)
    mine = contrastive_loss(image, text, scale, torch.zeros(6, 6, dtype=torch.bool))
    torch.testing.assert_close(mine, open_clip.ClipLoss()(image, text, scale))


def test_ignored_pairs_do_not_count():
    """Ignoring all pairs of one picture and caption with the rest leaves the loss of the rest."""
    image, text = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1)
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[3, :3] = ignored[:3, 3] = True
    rest = contrastive_loss(image[:3], text[:3], torch.tensor(5.0), ignored[:3, :3])
    torch.testing.assert_close(contrastive_loss(image, text, torch.tensor(5.0), ignored) * 4, rest * 3)


def test_crops_lie_inside_the_picture():
    """On a picture whose channels are the coordinates, a crop of the whole is the picture, mirrored or not."""
    axis = torch.linspace(0, 1, 16)
    picture = torch.stack([axis[:, None].expand(16, 16), axis.expand(16, 16), torch.ones(16, 16)])[None]
    whole = crops(picture, (1.0, 1.0), 16, np.random.default_rng(0))
    assert torch.allclose(whole, picture, atol=1e-5) or torch.allclose(whole.flip(-1), picture, atol=1e-5)
    part = crops(picture.repeat(50, 1, 1, 1), (0.25, 0.25), 16, np.random.default_rng(0))
    extent = part.amax((2, 3)) - part.amin((2, 3))  # (50, 3)
    torch.testing.assert_close(extent[:, :2], torch.full((50, 2), 0.5), atol=0.04, rtol=0)


def test_distillation_loss_against_its_definition():
    student, target = torch.randn(4, 5, 9), torch.rand(2, 5, 9).softmax(-1)
    terms = []
    for t in range(2):
        for s in range(4):
            if s != t:
                q = torch.softmax(student[s] / 0.1, -1)
                terms.append(-(target[t] * q.log()).sum(-1).mean())
    torch.testing.assert_close(distillation_loss(student, target, 0.1), sum(terms) / 6)


def test_balancing_uses_every_prototype_equally():
    """Also where one prototype wins for all; the cross ratios of the outputs stay."""
    outputs = torch.rand(2, 20, 8)
    outputs[..., 3] += 1
    assert ((outputs / 0.5).softmax(-1).mean((0, 1)).argmax()) == 3
    target = balanced(outputs, 0.5, rounds=50)
    torch.testing.assert_close(target.sum(-1), torch.ones(2, 20))
    torch.testing.assert_close(target.mean((0, 1)), torch.full((8,), 1 / 8))
    cross = (target[0, 0, 0] * target[1, 1, 1] / (target[0, 0, 1] * target[1, 1, 0])).log()
    expected = (outputs[0, 0, 0] + outputs[1, 1, 1] - outputs[0, 0, 1] - outputs[1, 1, 0]) / 0.5
    torch.testing.assert_close(cross, expected, rtol=1e-3, atol=1e-4)  # scaling rows and columns keeps cross ratios


def test_a_look_does_not_depend_on_the_place():
    picture = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(look(picture), look(picture.flip(-1)))
    torch.testing.assert_close(look(picture)[0, :3], picture.mean((0, 2, 3)))
    assert not look(torch.ones(1, 3, 8, 8))[0, 3:].any()


def test_the_most_alike_begin_with_the_first():
    looks = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [-1, 0], [1, 0.1], [0, 1], [1, 0.5]]), dim=-1)
    assert most_alike(looks, 3).tolist() == [0, 2, 4]


def test_learning_rate():
    rates = [learning_rate(step, 90, 1.0, 10) for step in range(90)]
    assert rates[0] == 0.1 and rates[9:60] == [1.0] * 51 and rates[-1] == pytest.approx(1 / 30)


def test_pictures_are_drawn_once(tmp_path):
    scenes = Scenes("train", 3, 16)
    first = drawn(scenes, tmp_path, workers=0)
    assert torch.equal(first, drawn(scenes, tmp_path, workers=0)) and len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(first[1].permute(1, 2, 0), scenes[1].image)
    reference = open_clip.image_transform(16, is_train=False)(scenes[1].image)
    torch.testing.assert_close(normalise(first)[1], reference)


@pytest.mark.parametrize(
    ("train", "config"),
    [
        (
            train_clip,
            ClipConfig(
                count=4,
                steps=4,
                batch=4,
                first=("single",),
                then=("many",),
                change=(0, 2),
                renewed=3,
                late=0.5,
                whole=1,
                snapshots=2,
                device="cpu",
                precision="float32",
            ),
        ),
        (train_dino, DinoConfig(count=4, steps=4, batch=2, device="cpu", precision="float32", prototypes=16, frozen=1)),
    ],
)
def test_a_stopped_training_continues_as_if_it_had_not_been(train, config, tmp_path, monkeypatch):
    config.pictures = tmp_path / "pictures"
    config.folder = tmp_path / "straight"
    train(config)
    config.folder = tmp_path / "stopped"
    module = train.__module__
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"{module}.Checkpoint.write", interrupting(2))
        train(config)
    train(config)
    name = f"{'clip' if train is train_clip else 'dino'}_tiny.safetensors"
    straight, stopped = (load_file(tmp_path / run / name) for run in ("straight", "stopped"))
    assert straight.keys() == stopped.keys()
    assert all(torch.equal(straight[key], stopped[key]) for key in straight)
    assert (tmp_path / "stopped" / "loss.png").exists()


def interrupting(steps):
    """`Checkpoint.write` that saves at once after this many steps and then stops the run."""
    from clearclip.zoo.training import Checkpoint

    write = Checkpoint.write

    def saved_then_stopped(self, parts, losses, now=False):
        if len(losses) == steps:
            write(self, parts, losses, now=True)
            raise KeyboardInterrupt

    return saved_then_stopped


def test_clip_names_single_things(clip, single):
    assert naming(clip, pictures(single), contents(single)[0], THINGS) >= 95


def test_dino_neighbours_are_the_same_things_on_the_same_ground(dino, single):
    """Above an untrained network of the same architecture; how far above pixels is on the model card."""
    bank = Scenes("train", 600, seed=7, kind="single")
    torch.manual_seed(0)
    scores = []
    for model in (dino, type(dino)(**DINO_TINY).eval()):
        stored, asked = features(model, pictures(bank)), features(model, pictures(single))
        scores.append([knn(stored, contents(bank)[i], asked, contents(single)[i], 20) for i in range(2)])
    assert scores[0][0] > scores[1][0] + 4 and scores[0][1] > scores[1][1] + 4


def test_knn_against_scikit_style_voting():
    bank, queries = (torch.nn.functional.normalize(torch.randn(n, 5), dim=-1) for n in (30, 8))
    labels, truth = torch.randint(0, 3, (30,)), torch.randint(0, 3, (8,))
    hits = 0
    for query, right in zip(queries, truth, strict=True):
        cosine = bank @ query
        votes = [sum(torch.exp(cosine[i] / 0.07) for i in cosine.topk(7).indices if labels[i] == c) for c in range(3)]
        hits += int(np.argmax([float(v) for v in votes]) == right)
    assert knn(bank, labels, queries, truth, 7) == pytest.approx(100 * hits / 8)


def test_the_exam_asks_what_a_segmentation_answers():
    """mIoU of the patches of an enlarged picture, against labels of the product at the middle of each patch."""
    from clearclip import Segmenter, load
    from clearclip.methods.windows import Windows

    exam = Exam(count=4)
    answers = exam(build_clip_tiny())
    scenes = Scenes("test", 4, seed=3)
    segmenter = Segmenter(load("clip_tiny"), scenes.classes, "clearclip", windows=Windows(64, 64, 64, 64))
    logits = [next(iter(segmenter.logits([scenes[i].image])))["clearclip"].windows[0][1] for i in range(4)]
    guess = torch.stack([one.argmax(0).flatten() for one in logits])
    expected = ious(guess, exam.labels["scenes"], 26).nanmean().item()
    assert answers.miou.sel(recipe="clearclip", dataset="scenes").item() == pytest.approx(expected, abs=1e-3)
    assert set(answers.dataset.values) == set(DRAWN) and answers.sizes["layer"] == 6


def test_ious_against_their_definition():
    guess, truth = torch.randint(0, 3, (4, 50)), torch.randint(0, 3, (4, 50))
    truth[0, :7] = 255
    known = truth != 255
    expected = [
        100 * ((guess == c) & (truth == c)).sum() / (((guess == c) | (truth == c)) & known).sum() for c in range(3)
    ]
    torch.testing.assert_close(ious(guess, truth, 3), torch.stack(expected))


def test_the_study_runs_every_combination_once_and_goes_on(tmp_path, monkeypatch):
    config = StudyConfig(
        folder=tmp_path / "study", pictures=tmp_path / "pictures", blocks=(2, 3), kinds=("single",), ground=(0.1,),
        late_blocks=(2,), count=4, steps=4, batch=4, every=2, scenes=4,
    )  # fmt: skip
    study(config)
    result = results.read(tmp_path / "study/study.nc")
    assert result.sizes["step"] == 2 and result.sizes["layer"] == 3 and result.late.values.tolist() == [0.0, 0.95]
    assert np.isnan(result.entropy.sel(blocks=2, late=0.0, layer=3)).all()
    assert np.isnan(result.miou.sel(blocks=3, late=0.95)).all() and not np.isnan(result.miou.sel(late=0.0)).any()
    monkeypatch.setattr("clearclip.zoo.train_clip.main", None)  # nothing is trained twice
    study(config)
    xr.testing.assert_equal(results.read(tmp_path / "study/study.nc"), result)
