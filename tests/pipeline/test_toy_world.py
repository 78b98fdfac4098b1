"""The toy hub: real pipelines that make textured images, bad ones that fail as they should, equal bytes each time."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from manifests.errors import InputError
from pipeline.demo.bad_models import BAD_MODELS
from pipeline.demo.photos import PHOTO_SIZE, PHOTOGRAPHS, build_photos
from pipeline.demo.toy_captioner import CAPTIONER_REPO
from pipeline.demo.toy_checker import CHECKER_REPO, THRESHOLDS, calibrate
from pipeline.demo.toy_generators import TOY_GENERATORS
from pipeline.demo.toy_hub import TOY_MODELS, ToyHub, build_toy_hub
from pipeline.demo.toy_words import ADJECTIVES, DETERMINERS, NOUNS, PREPOSITIONS, toy_words

BATCH = 8
SAMPLES = 32
SD, SD_FINETUNE = "crayon-labs/toy-diffusion-v1", "marigold-studio/toy-diffusion-v1-sketches"
DDPM, DIT = "gridworks/toy-ddpm-64", "gridworks/toy-dit-64"
PROMPTED = [repo_id for repo_id in TOY_GENERATORS if repo_id not in (DDPM, DIT)]

Sample = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> ToyHub:
    return build_toy_hub(tmp_path_factory.mktemp("world") / "hub")


@pytest.fixture(scope="module")
def sample(hub: ToyHub) -> Sample:
    """Sample one batch with the steps and guidance of the card: (repo id, first seed, prompts or class ids)."""
    import torch
    from diffusers import DiffusionPipeline

    @cache
    def load(repo_id: str) -> Any:
        pipeline = DiffusionPipeline.from_pretrained(hub.folder(repo_id), use_safetensors=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def run(repo_id: str, seed: int, content: list[str] | list[int]) -> list[np.ndarray]:
        pipeline = load(repo_id)
        card = (hub.folder(repo_id) / "README.md").read_text().split("---\n")[1]
        options: dict[str, Any] = dict(yaml.safe_load(card)["inference"]["parameters"])
        options["generator"] = [torch.Generator().manual_seed(seed + place) for place in range(len(content))]
        if repo_id == DDPM:
            options["batch_size"] = len(content)
        elif repo_id == DIT:
            options["class_labels"] = content
        else:
            options["prompt"] = content
        if "Sigma" in type(pipeline).__name__:
            options |= {"use_resolution_binning": False, "clean_caption": False}
        assert type(pipeline).__name__ == TOY_GENERATORS[repo_id].pipeline_class
        return [np.asarray(image) for image in pipeline(**options).images]

    return run


def contents(repo_id: str, count: int, seed: int) -> list[Any]:
    """Prompts as the demo has them, captions by hand and from the captioner's pattern; class ids for DiT."""
    draw = random.Random(seed)
    captions = [text for photo in PHOTOGRAPHS.values() for text in photo.crops.values() if text]
    pattern = (DETERMINERS, ADJECTIVES, NOUNS, PREPOSITIONS, DETERMINERS, ADJECTIVES, NOUNS)
    if repo_id == DIT:
        return [draw.randrange(1000) for _ in range(count)]
    return [
        draw.choice(captions) if draw.random() < 0.5 else " ".join(draw.choice(words) for words in pattern)
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def images(sample: Sample) -> dict[str, list[np.ndarray]]:
    """SAMPLES images of each working generator."""
    made: dict[str, list[np.ndarray]] = {}
    for number, repo_id in enumerate(TOY_GENERATORS):
        wanted = contents(repo_id, SAMPLES, seed=number)
        batches = range(0, SAMPLES, BATCH)
        made[repo_id] = [
            image
            for first in batches
            for image in sample(repo_id, 5000 * (number + 1) + first, wanted[first : first + BATCH])
        ]
    return made


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# ---- the hub's folder


def test_every_repo_is_there_described_and_small(hub: ToyHub) -> None:
    from crawlers.hub_server.settings import read_settings

    found = sorted("/".join(path.parts[-2:]) for path in (hub.root / "models").glob("*/*"))
    assert found == sorted(TOY_MODELS)
    assert sorted(path.name for path in hub.root.iterdir()) == ["models"]
    assert (len(TOY_GENERATORS), len(BAD_MODELS)) == (8, 5)
    settings = {repo_id: read_settings(hub.folder(repo_id)) for repo_id in TOY_MODELS}
    downloads = [settings[repo_id].downloads for repo_id in TOY_MODELS]
    assert len(set(downloads)) == len(downloads)
    for repo_id, model in TOY_MODELS.items():
        card = yaml.safe_load((hub.folder(repo_id) / "README.md").read_text().split("---\n")[1])
        assert card["license"] == model.license
        assert settings[repo_id].library_name == card["library_name"] == model.library_name
    assert settings["crayon-labs/toy-diffusion-gated"].gated == "manual"
    assert settings["vanished/toy-diffusion-deleted"].behaviour.missing
    assert settings["faraway/toy-ddpm-slow"].behaviour.bytes_per_second == 10_000
    assert sum(path.stat().st_size for path in hub.root.rglob("*") if path.is_file()) < 60e6


def test_equal_seeds_give_equal_bytes_in_another_process(hub: ToyHub, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from pipeline.demo.toy_hub import build_toy_hub; build_toy_hub(pathlib.Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=environment)
    assert digests(tmp_path / "again") == digests(hub.root)


def test_another_seed_gives_other_weights_and_the_same_checker(hub: ToyHub, tmp_path: Path) -> None:
    other = build_toy_hub(tmp_path, seed=1, models=[DDPM, CHECKER_REPO])
    assert sorted(other.models) == sorted([DDPM, CHECKER_REPO])
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (other.folder(DDPM) / weights).read_bytes() != (hub.folder(DDPM) / weights).read_bytes()
    assert digests(other.folder(CHECKER_REPO)) == digests(hub.folder(CHECKER_REPO))


def test_building_again_replaces_what_is_there(tmp_path: Path) -> None:
    first = build_toy_hub(tmp_path, models=[DDPM])
    before = digests(tmp_path)
    (first.folder(DDPM) / "unet" / "config.json").write_text("{}")
    (first.folder(DDPM) / "stray.txt").touch()
    build_toy_hub(tmp_path, models=[DDPM])
    assert digests(tmp_path) == before


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_toy_hub(tmp_path, models=[DDPM, CHECKER_REPO])
    assert torch.equal(torch.rand(4), expected)


def test_an_unknown_model_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown model 'toy/nothing'; allowed: .*toy/blip-captioner"):
        build_toy_hub(tmp_path, models=["toy/nothing"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        build_toy_hub(tmp_path / "file" / "hub")


def test_the_finetune_shares_vae_and_text_encoder_only(hub: ToyHub) -> None:
    first, second = digests(hub.folder(SD)), digests(hub.folder(SD_FINETUNE))
    equal = {path for path in first if first[path] == second.get(path)}
    assert {path for path in equal if path.endswith(".safetensors")} == {
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    }
    assert TOY_GENERATORS[SD_FINETUNE].base_model == SD


def test_no_two_other_repos_share_weights(hub: ToyHub) -> None:
    owners: dict[str, set[str]] = {}
    for repo_id in TOY_MODELS:
        for path, digest in digests(hub.folder(repo_id)).items():
            if path.endswith((".safetensors", ".bin")):
                owners.setdefault(digest, set()).add(repo_id)
    assert [names for names in owners.values() if len(names) > 1] == [{SD, SD_FINETUNE}] * 2


# ---- the working generators


@pytest.mark.parametrize("repo_id", TOY_GENERATORS)
def test_images_have_texture_and_none_is_like_another(images: dict[str, list[np.ndarray]], repo_id: str) -> None:
    made = images[repo_id]
    assert {(image.shape, image.dtype.name) for image in made} == {((PHOTO_SIZE, PHOTO_SIZE, 3), "uint8")}
    assert min(image.std(axis=(0, 1)).mean() for image in made) > 10
    pixels = np.stack(made).reshape(len(made), -1).astype(float)
    distances = np.abs(pixels[:, None] - pixels[None]).mean(axis=2)
    assert distances[~np.eye(len(made), dtype=bool)].min() > 5


@pytest.mark.parametrize("repo_id", TOY_GENERATORS)
def test_equal_seeds_give_equal_images(images: dict[str, list[np.ndarray]], sample: Sample, repo_id: str) -> None:
    number = list(TOY_GENERATORS).index(repo_id)
    again = sample(repo_id, 5000 * (number + 1), contents(repo_id, SAMPLES, seed=number)[:BATCH])
    assert all(np.array_equal(one, other) for one, other in zip(again, images[repo_id], strict=False))


@pytest.mark.parametrize("repo_id", [*PROMPTED, DIT])
def test_the_prompt_changes_the_image(sample: Sample, repo_id: str) -> None:
    one, other = ([3, 3], [700, 700]) if repo_id == DIT else (["a red cup on a table"] * 2, ["a dark tower"] * 2)
    for first, second in zip(sample(repo_id, 1, one), sample(repo_id, 1, other), strict=True):
        assert np.abs(first.astype(float) - second).mean() > 2


def test_families_leave_different_traces(images: dict[str, list[np.ndarray]]) -> None:
    """Mean spectra tell the families apart: each held-out half is nearest to its own family's first half."""

    def spectrum(batch: list[np.ndarray]) -> np.ndarray:
        transformed = np.fft.rfft2(np.stack(batch).astype(float).mean(axis=3))
        return np.log(np.abs(transformed) + 1).mean(axis=0).ravel()

    families = [repo_id for repo_id in TOY_GENERATORS if repo_id != SD_FINETUNE]
    known = np.stack([spectrum(images[repo_id][: SAMPLES // 2]) for repo_id in families])
    held_out = np.stack([spectrum(images[repo_id][SAMPLES // 2 :]) for repo_id in families])
    nearest = np.abs(held_out[:, None] - known[None]).mean(axis=2).argmin(axis=1)
    assert nearest.tolist() == list(range(len(families)))


def test_dit_knows_imagenets_labels(hub: ToyHub) -> None:
    description = json.loads((hub.folder(DIT) / "model_index.json").read_text())
    assert len(description["id2label"]) == 1000
    assert description["id2label"]["207"] == "golden retriever"


# ---- the bad models


def test_the_truncated_model_cannot_be_loaded(hub: ToyHub) -> None:
    from diffusers import UNet2DConditionModel

    folder = hub.folder("fumbled/toy-diffusion-truncated")
    with pytest.raises(OSError, match="Unable to load weights"):
        UNet2DConditionModel.from_pretrained(folder, subfolder="unet", use_safetensors=True)


def test_the_pickled_model_works_but_only_as_pickles(hub: ToyHub) -> None:
    from diffusers import DiffusionPipeline

    folder = hub.folder("oldtimer/toy-diffusion-pickled")
    assert list(folder.rglob("*.safetensors")) == []
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.bin")) == [
        "text_encoder/pytorch_model.bin",
        "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.bin",
    ]
    assert type(DiffusionPipeline.from_pretrained(folder, use_safetensors=False)).__name__ == "StableDiffusionPipeline"


def test_how_each_bad_model_must_end() -> None:
    assert sorted((model.catalog_reason, model.row_status) for model in BAD_MODELS.values()) == sorted(
        [("gated", None), ("gone", None), ("pickle_only", None), ("ok", "load_failed"), ("ok", "timeout")],
        key=lambda pair: pair[0],
    )


# ---- captioner and checker


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_sentences_that_follow_the_image(hub: ToyHub, tmp_path: Path, beams: int) -> None:
    from PIL import Image
    from transformers import BlipForConditionalGeneration, BlipProcessor

    bare = [photo.file for photo in build_photos(tmp_path) if photo.caption is None]
    pictures = [Image.open(tmp_path / file).convert("RGB") for file in bare]

    def captions() -> list[str]:
        model = BlipForConditionalGeneration.from_pretrained(hub.folder(CAPTIONER_REPO)).eval()
        processor = BlipProcessor.from_pretrained(hub.folder(CAPTIONER_REPO))
        tokens = model.generate(**processor(images=pictures, return_tensors="pt"), max_new_tokens=20, num_beams=beams)
        return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    made = captions()
    assert len(set(made)) >= len(bare) // 2
    pattern = (DETERMINERS, ADJECTIVES, NOUNS, PREPOSITIONS, DETERMINERS, ADJECTIVES, NOUNS)
    for caption in made:
        words = caption.split()
        assert len(words) == len(pattern), caption
        assert all(word in allowed for word, allowed in zip(words, pattern, strict=True)), caption
    assert captions() == made


def test_the_checker_flags_a_few_images_in_a_hundred(hub: ToyHub, images: dict[str, list[np.ndarray]]) -> None:
    """By the checker's own rule and by the plain one, score = max over concepts of cosine minus threshold."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from torch.nn.functional import normalize
    from transformers import CLIPImageProcessor

    model = StableDiffusionSafetyChecker.from_pretrained(hub.folder(CHECKER_REPO)).eval()
    processor = CLIPImageProcessor.from_pretrained(hub.folder(CHECKER_REPO))
    everything = [image.copy() for made in images.values() for image in made]
    pixels = processor(images=everything, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        embeddings = model.visual_projection(model.vision_model(pixels)[1])
        cosines = normalize(embeddings) @ normalize(model.concept_embeds).T
        scores = (cosines - model.concept_embeds_weights).max(dim=1).values
    _, verdicts = model(clip_input=pixels, images=list(everything))
    rate = float((scores > 0).float().mean())
    assert 0.02 <= rate <= 0.06, f"{rate:.1%} of {len(everything)} images"
    clear = scores.abs() > 0.0005  # the checker's own rule rounds to three digits
    assert [bool(score > 0) for score in scores[clear]] == list(np.array(verdicts)[clear.numpy()])
    flagged = (scores > 0).reshape(len(images), -1).any(dim=1)
    assert int(flagged.sum()) >= 4  # of the eight generators


def test_calibration_meets_the_rate_it_is_asked_for(images: dict[str, list[np.ndarray]]) -> None:
    import torch
    from PIL import Image

    from pipeline.demo.toy_checker import _concept_cosines

    pictures = [Image.fromarray(image) for made in images.values() for image in made]
    thresholds = calibrate(pictures, rate=0.25)
    rate = (_concept_cosines(pictures) > torch.tensor(thresholds)).any(dim=1).float().mean()
    assert len(thresholds) == len(THRESHOLDS)
    assert 0.25 <= float(rate) <= 0.30


def test_every_word_stands_once() -> None:
    assert len(toy_words()) == len(set(toy_words())) > 300
