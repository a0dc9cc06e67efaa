"""Measure what the model cards state, on scenes that no training saw: ``python -m clearclip.zoo.quality``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from timm.models import VisionTransformer
from torch import Tensor

from clearclip.cli import parse, run
from clearclip.datasets.drawn.captions import facts
from clearclip.datasets.drawn.scenes import VARIANTS, Scenes
from clearclip.datasets.drawn.textures import STUFF
from clearclip.datasets.drawn.things import THINGS
from clearclip.evaluation.run import evaluate
from clearclip.methods.recipes import RECIPES, Recipe
from clearclip.models.backbone import Backbone
from clearclip.models.load import load
from clearclip.zoo import CLIP_TINY, DINO_TINY, WEIGHTS, build_clip_tiny, build_dino_tiny, tokenizer
from clearclip.zoo.measure import ALPHAS, class_embeddings, recipes, statistics
from clearclip.zoo.pictures import normalise, stack
from clearclip.zoo.train_clip import stated

Encoder = Callable[[Tensor], Tensor]


@dataclass
class Config:
    """Which weights, and on how many pictures."""

    clip: Path = WEIGHTS / "clip_tiny.safetensors"
    dino: Path = WEIGHTS / "dino_tiny.safetensors"
    count: int = 1_000  # test pictures of each kind
    scenes: int = 200  # test scenes that are segmented with every recipe (of the shipped weights)
    inside: int = 100  # test scenes whose residual stream is measured (of the shipped weights)
    neighbours: int = 20
    bank: int = 4_000  # training pictures that the neighbours come from
    seed: int = 0


def pictures(scenes: Scenes) -> Tensor:
    """All pictures of a set, normalised, (N, 3, H, W)."""
    return normalise(torch.from_numpy(stack([scenes[i] for i in range(len(scenes))])))


@torch.inference_mode()
def features(encode: Encoder, images: Tensor) -> Tensor:
    """Unit vectors (N, D) of pictures."""
    return torch.cat([F.normalize(encode(batch), dim=-1) for batch in images.split(250)])


def naming(model: CLIP, images: Tensor, truth: Tensor, names: tuple[str, ...]) -> float:
    """Share of pictures whose nearest class name is the right one, in percent."""
    guess = (features(model.encode_image, images) @ class_embeddings(model, names).T).argmax(-1)
    return 100 * (guess == truth).float().mean().item()


def retrieval(model: CLIP, scenes: Scenes, images: Tensor) -> dict[str, float]:
    """Caption retrieval both ways and its chance level, in percent; any caption that is true of the picture counts."""
    captions = [scenes.captions(i, 1)[0] for i in range(len(scenes))]
    said = stated([c.facts for c in captions])
    truth = stated([facts(scene.nouns, scene.stuff) for scene in map(scenes.scene, range(len(scenes)))])
    right = said @ truth.T == said.sum(1, keepdim=True)  # (captions, pictures)
    with torch.inference_mode():
        text = model.encode_text(tokenizer()([c.text for c in captions]), normalize=True)
    similarity = text @ features(model.encode_image, images).T
    result = {"chance": 100 * right.float().mean().item()}
    for direction, scores, hits in (
        ("picture → caption", similarity.T, right.T),
        ("caption → picture", similarity, right),
    ):
        for k in (1, 5):
            best = hits.gather(1, scores.topk(k).indices).any(1)
            result[f"{direction}, among the best {k}"] = 100 * best.float().mean().item()
    return result


def knn(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, neighbours: int) -> float:
    """Share of queries that their nearest neighbours, weighted by exp(cosine / 0.07), label rightly, in percent."""
    similarity, nearest = (queries @ bank.T).topk(neighbours)  # (Q, k)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1)
    votes.scatter_add_(1, bank_labels[nearest], (similarity / 0.07).exp())
    return 100 * (votes.argmax(1) == labels).float().mean().item()


def segmentation(model: Backbone, proxy: Backbone, count: int) -> pd.DataFrame:
    """mIoU of every recipe on test scenes, in percent, as `clearclip.evaluate` measures it.

    One row per recipe; one column per drawn data set, and one for the things among all 26 classes. The paper's sweeps
    are measured on the data set with all classes.
    """
    swept = {recipe.name: recipe for recipe in (*RECIPES.values(), *recipes(model.depth), *scaled())}
    columns = {}
    for stuff, (name, _) in VARIANTS.items():
        chosen = swept if name == "scenes" else RECIPES
        scenes = Scenes("test", count, stuff=stuff)
        result = evaluate(model, scenes, chosen.values(), proxy=proxy, progress=False).squeeze(("model", "dataset"))
        columns[name] = result.miou.to_series()
        if name == "scenes":
            columns["things among 26"] = result.iou.isel({"class": slice(len(THINGS))}).mean("class").to_series()
    return pd.DataFrame(columns).loc[list(swept)]


def scaled() -> list[Recipe]:
    """X_res + α·X_attn for every attention (paper Fig. 6)."""
    attentions = ("qk", "qq", "kk", "vv", "identity")
    return [Recipe(f"{a} alpha={alpha:g}", a, ffn=False, alpha=alpha) for a in attentions for alpha in ALPHAS]


def streams(model: Backbone, count: int) -> pd.DataFrame:
    """Normalised entropy and maximum of X_res per block, mean over test scenes at the model's own size."""
    entropy, maximum = statistics(model, pictures(Scenes("test", count)))
    return pd.DataFrame({"entropy": entropy, "maximum": maximum}, index=range(1, model.depth + 1)).T


def contents(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """The thing and the ground of each single-object scene, as indices (N,)."""
    composed = [scenes.scene(i) for i in range(len(scenes))]
    things = torch.tensor([THINGS.index(scene.things[0].name) for scene in composed])
    return things, torch.tensor([STUFF.index(scene.stuff[0]) for scene in composed])


def main(config: Config) -> None:
    """The command `python -m clearclip.zoo.quality`."""
    single = Scenes("test", config.count, seed=config.seed, kind="single")
    scenes = Scenes("test", config.count, seed=config.seed)
    bank = Scenes("train", config.bank, seed=config.seed, kind="single")
    images, crowded, known = pictures(single), pictures(scenes), pictures(bank)
    things, grounds = contents(single)
    known_things, known_grounds = contents(bank)

    torch.manual_seed(config.seed)
    pairs: dict[str, CLIP] = {"clip_tiny": build_clip_tiny(config.clip), "random weights": CLIP(**CLIP_TINY).eval()}
    for label, clip in pairs.items():
        right = naming(clip, images, things, THINGS)
        print(f"{label}: names the single thing {right:.1f} %, chance {100 / len(THINGS):.1f} %")
        for key, value in retrieval(clip, scenes, crowded).items():
            print(f"{label}: retrieval, {key}: {value:.1f} %")

    models = {name: load(name) for name in ("clip_tiny", "dino_tiny")}
    print(segmentation(models["clip_tiny"], models["dino_tiny"], config.scenes).round(1).to_string())
    for name, model in models.items():
        print(f"X_res of {name}, by block\n{streams(model, config.inside).round(3).to_string()}")

    trunk = VisionTransformer(**DINO_TINY).eval()
    encoders: dict[str, Encoder] = {
        "dino_tiny": build_dino_tiny(config.dino), "clip_tiny": pairs["clip_tiny"].encode_image,
        "random weights": trunk, "pixels": lambda batch: batch.flatten(1),
    }  # fmt: skip
    for label, encode in encoders.items():
        stored, asked = features(encode, known), features(encode, images)
        thing = knn(stored, known_things, asked, things, config.neighbours)
        ground = knn(stored, known_grounds, asked, grounds, config.neighbours)
        print(f"{label}: {config.neighbours}-NN names the thing {thing:.1f} %, the ground {ground:.1f} %")


if __name__ == "__main__":
    run(lambda: main(parse(Config, __doc__)))
