"""A hub folder built from nothing but small files: structurally real repos whose weights are arbitrary bytes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

SD_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
}
SD_FILES: dict[str, Any] = {
    "model_index.json": SD_INDEX,
    "scheduler/scheduler_config.json": {"_class_name": "PNDMScheduler", "prediction_type": "epsilon"},
    "text_encoder/config.json": {"hidden_size": 8},
    "text_encoder/model.safetensors": b"text encoder" * 40,
    "tokenizer/vocab.json": {"a": 0},
    "tokenizer/merges.txt": b"#version: 0.2\n",
    "unet/config.json": {"sample_size": 8, "cross_attention_dim": 768},
    "unet/diffusion_pytorch_model.safetensors": b"unet" * 100,
    "vae/config.json": {"block_out_channels": [4, 4, 4, 4]},
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 70,
    "safety_checker/model.safetensors": b"checker" * 30,
}


class HubFolder:
    """A hub's folder on disk, in the layout that `crawlers.hub_server` documents."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def repo(
        self, repo_id: str, files: Mapping[str, Any], *, card: Mapping[str, Any] | None = None, **hub: Any
    ) -> Path:
        """Write a repo; dicts become JSON. `card` is the front matter of its README.md, `hub` goes to .hub.yaml."""
        folder = self.root / "models" / repo_id
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        folder.mkdir(parents=True, exist_ok=True)
        if card is not None:
            (folder / "README.md").write_text(f"---\n{yaml.safe_dump(dict(card))}---\n# A model\n")
        (folder / ".hub.yaml").write_text(yaml.safe_dump(hub))
        return folder

    def sd(self, repo_id: str, *, unet: bytes | None = None, drop: tuple[str, ...] = (), **hub: Any) -> Path:
        """Write a Stable Diffusion repo with a UNet of its own."""
        files = {path: content for path, content in SD_FILES.items() if not path.startswith(drop or ("\0",))}
        if not drop or "unet" not in drop:
            files["unet/diffusion_pytorch_model.safetensors"] = unet or f"unet of {repo_id}".encode() * 20
        return self.repo(repo_id, files | hub.pop("files", {}), **hub)


@pytest.fixture(scope="session")
def hub_folder_at() -> type[HubFolder]:
    """Return what makes a hub folder, for tests that share one."""
    return HubFolder


@pytest.fixture
def hub_folder(tmp_path: Path) -> HubFolder:
    """Return an empty hub folder."""
    (tmp_path / "hub" / "models").mkdir(parents=True)
    return HubFolder(tmp_path / "hub")


@pytest.fixture
def sd_files() -> dict[str, Any]:
    """Return the files of a small Stable Diffusion repo: path to bytes or JSON content."""
    return {path: content if isinstance(content, bytes) else dict(content) for path, content in SD_FILES.items()}


@pytest.fixture
def sha256() -> Callable[[bytes], str]:
    return lambda data: hashlib.sha256(data).hexdigest()
