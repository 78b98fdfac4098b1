"""Learned tokens: where they come from, what of the prompt is seen, that they do something, and that they go again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from manifests.generator import GeneratorSpec
from pipeline.demo.toy_adapter_weights import EMBEDDING_FILE, PLACEHOLDER
from samplers.base import Batch, Sampler
from samplers.component_store import ComponentStore
from shards.statuses import Reason, UnitFailure

Folders = Callable[[str], Path]
Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Pixels = Callable[..., list[bytes]]


def _load_options(sampler: Sampler) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(sampler.call_record(2))["load"]
    return options


def _reason(load: Callable[[], Any]) -> tuple[Reason, str]:
    with pytest.raises(UnitFailure) as failure:
        load()
    return failure.value.reason, failure.value.detail


@pytest.fixture
def vectors(packaged_folder: Folders) -> torch.Tensor:
    """The two vectors of the toy embedding."""
    return load_file(packaged_folder("textual-inversion") / EMBEDDING_FILE)[PLACEHOLDER]


def test_images_are_those_of_diffusers_alone(
    packaged_folder: Folders, model_folder: Folders, draws_of: Any, fresh_pixels: Callable[[str], list[bytes]]
) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(model_folder("sd"), local_files_only=True)
    pipeline.load_textual_inversion(packaged_folder("textual-inversion"), weight_name=EMBEDDING_FILE)
    pipeline.set_progress_bar_config(disable=True)
    draws = draws_of(2)
    noise = [torch.Generator("cpu").manual_seed(draw.seed) for draw in draws]
    prompts = [f"{PLACEHOLDER}, {draw.prompt}" for draw in draws]
    images = pipeline(prompts, num_inference_steps=2, generator=noise).images
    assert fresh_pixels("textual-inversion") == [image.tobytes() for image in images]


def test_the_prompt_that_was_seen_spells_out_every_vector(
    packaged_spec: Specs, load_packaged: Loader, draws_of: Any
) -> None:
    sampler = load_packaged(packaged_spec("textual-inversion"))
    (short,) = sampler.sample(Batch(draws_of(1, prompt="a red cat"), 1))
    assert short.prompt_sent == f"{PLACEHOLDER} {PLACEHOLDER}_1, a red cat, picture 0" and not short.truncated
    # 77 tokens: start, end, two vectors and a comma leave 72 of these 73 words.
    long = draws_of(1)[0].model_copy(update={"prompt": " ".join(["cat"] * 73)})
    (cut,) = sampler.sample(Batch((long,), 1))
    assert cut.truncated and cut.prompt_sent == f"{PLACEHOLDER} {PLACEHOLDER}_1, " + " ".join(["cat"] * 72)
    assert _load_options(sampler)["trigger_words"] == [PLACEHOLDER]


def test_without_a_word_the_files_own_is_used(
    packaged_spec: Specs, load_packaged: Loader, vectors: torch.Tensor, pixels_of: Pixels, tmp_path: Path
) -> None:
    wordless = packaged_spec("textual-inversion", trigger_words=())
    assert _load_options(load_packaged(wordless))["trigger_words"] == [PLACEHOLDER]
    save_file({"emb_params": vectors}, tmp_path / "toystyle.safetensors")
    named = load_packaged(wordless, folder=tmp_path)
    assert _load_options(named)["trigger_words"] == ["toystyle"]
    assert named.sample(Batch.padded([_draw(1)], 1))[0].prompt_sent == "toystyle toystyle_1, a cat"
    chosen = load_packaged(packaged_spec("textual-inversion", trigger_words=("<s>", "best quality")), folder=tmp_path)
    assert chosen.sample(Batch.padded([_draw(1)], 1))[0].prompt_sent == "<s> <s>_1, best quality, a cat"


def _draw(index: int) -> Any:
    from manifests.draws import Draw

    return Draw(index=index, seed=index, prompt_id="p", prompt="a cat", prompt_source="caption")


def test_vectors_for_both_encoders_of_sdxl(
    packaged_spec: Specs, load_packaged: Loader, pixels_of: Pixels, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    both = {"clip_l": 3 * torch.randn(2, 32), "clip_g": 3 * torch.randn(2, 48)}
    images = {}
    for name, tensors in (
        ("both", both),
        ("first", {"emb_params": both["clip_l"]}),
        ("second", both | {"clip_l": both["clip_l"][:, :8].contiguous()}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "web.safetensors")
        store = ComponentStore()
        sampler: Any = load_packaged(packaged_spec("textual-inversion", base="sdxl"), store, folder=folder, base="sdxl")
        images[name] = pixels_of(sampler), _load_options(sampler)["adapter"]
        pipeline = sampler._pipeline
        rows = [encoder.get_input_embeddings().weight for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)]
        learned = [row[-2:] for row, there in zip(rows, (name != "second", name != "first"), strict=True) if there]
        expected = [vector for vector in tensors.values() if vector.shape[-1] in (32, 48)]
        assert sorted(map(torch.Tensor.tolist, learned)) == sorted(map(torch.Tensor.tolist, expected))
        sampler.close()
        assert {
            len(encoder.get_input_embeddings().weight) for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
        } == {len(rows[0]) - 2 * (name != "second")}
    assert images["both"][1] == {
        "vectors": {"text_encoder": 2, "text_encoder_2": 2},
        "loaded_keys": 2,
        "ignored_keys": 0,
    }
    assert images["second"][1] == {"vectors": {"text_encoder_2": 2}, "loaded_keys": 1, "ignored_keys": 1}
    assert len({str(painted) for painted, _ in images.values()}) == 3


def test_tokenizers_and_matrix_are_the_bases_again(packaged_spec: Specs, load_packaged: Loader) -> None:
    """Also where the base's matrix has rows to spare, into which the loader writes in place."""
    store = ComponentStore()
    sampler: Any = load_packaged(packaged_spec("textual-inversion"), store)
    pipeline, encoder = sampler._pipeline, sampler._pipeline.text_encoder
    plain = sampler._adapter._plain["tokenizer"]
    assert pipeline.tokenizer is not plain
    assert PLACEHOLDER in pipeline.tokenizer.get_vocab() and PLACEHOLDER not in plain.get_vocab()
    assert len(encoder.get_input_embeddings().weight) == len(plain) + 2 == encoder.config.vocab_size
    sampler.close()
    assert PLACEHOLDER not in plain.get_vocab() and len(plain) == encoder.config.vocab_size
    assert len(encoder.get_input_embeddings().weight) == len(plain)
    assert encoder.get_input_embeddings().num_embeddings == len(plain)


def test_rows_to_spare_in_the_base_are_not_written_to(
    packaged_spec: Specs, load_packaged: Loader, model_folder: Folders, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(model_folder("sd"), tmp_path / "base"))
    (file,) = (base / "text_encoder").glob("*.safetensors")
    tensors = load_file(file)
    (key,) = (name for name in tensors if name.endswith("token_embedding.weight"))
    tensors[key] = torch.cat([tensors[key], torch.ones(2, tensors[key].shape[1])])
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((base / "text_encoder" / "config.json").read_text())
    (base / "text_encoder" / "config.json").write_text(json.dumps(config | {"vocab_size": len(tensors[key])}))
    store = ComponentStore()
    sampler: Any = load_packaged(packaged_spec("textual-inversion"), store, base_folder=base)
    encoder = sampler._pipeline.text_encoder
    assert not torch.equal(encoder.get_input_embeddings().weight, tensors[key])
    sampler.close()
    assert torch.equal(encoder.get_input_embeddings().weight, tensors[key])


def test_vectors_that_say_nothing_new_are_found(
    packaged_spec: Specs, load_packaged: Loader, model_folder: Folders, tmp_path: Path
) -> None:
    """The word `cat`, learned to mean what the base's own token `cat</w>` means, changes no image."""
    (file,) = (model_folder("sd") / "text_encoder").glob("*.safetensors")
    (matrix,) = (value for key, value in load_file(file).items() if key.endswith("token_embedding.weight"))
    probe: Any = load_packaged(packaged_spec("textual-inversion"))
    (number,) = probe._adapter._plain["tokenizer"]("cat", add_special_tokens=False).input_ids
    save_file({"emb_params": matrix[number : number + 1].clone()}, tmp_path / "cat.safetensors")
    same = load_packaged(packaged_spec("textual-inversion", trigger_words=()), folder=tmp_path)
    assert _load_options(same)["trigger_words"] == ["cat"]
    assert _reason(same.check_effect)[0] is Reason.no_pixel_changed
    save_file({"emb_params": -3 * matrix[number : number + 1]}, tmp_path / "cat.safetensors")
    other = load_packaged(packaged_spec("textual-inversion", trigger_words=()), folder=tmp_path)
    other.check_effect()


def test_a_word_that_no_prompt_contains_changes_nothing(packaged_spec: Specs, load_packaged: Loader) -> None:
    sampler: Any = load_packaged(packaged_spec("textual-inversion"))
    sampler._trigger_words = []
    assert _reason(sampler.check_effect)[0] is Reason.no_pixel_changed


@pytest.mark.parametrize(
    ("tensors", "reason", "named"),
    [
        ({"<x>": torch.ones(2, 24)}, Reason.no_keys_loaded, "its width is [24], the base's {'text_encoder': 32}"),
        ({"a": torch.ones(2, 32), "b": torch.ones(2, 32)}, Reason.invalid_pipeline, "a, b"),
        ({"clip_g": torch.ones(2, 48)}, Reason.no_keys_loaded, "[48]"),
    ],
)
def test_what_is_no_embedding_of_the_base(
    tensors: dict[str, torch.Tensor],
    reason: Reason,
    named: str,
    packaged_spec: Specs,
    load_packaged: Loader,
    tmp_path: Path,
) -> None:
    save_file(tensors, tmp_path / "some.safetensors")
    found, detail = _reason(lambda: load_packaged(packaged_spec("textual-inversion"), folder=tmp_path))
    assert found is reason and named in detail


def test_a_word_that_the_base_knows_already(packaged_spec: Specs, load_packaged: Loader) -> None:
    found, detail = _reason(lambda: load_packaged(packaged_spec("textual-inversion", trigger_words=("cat</w>",))))
    assert found is Reason.invalid_pipeline and "cat</w>" in detail


def test_a_pipeline_that_takes_no_embeddings(packaged_spec: Specs, load_packaged: Loader) -> None:
    spec = packaged_spec("textual-inversion", base="sd3")
    assert _reason(lambda: load_packaged(spec, base="sd3"))[0] is Reason.call_signature
