"""diffusers and transformers load whole models over a hub: unmodified, told only ``HF_ENDPOINT``."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from crawlers.hub_server.server import HubServer

LOAD = """
import hashlib, json, torch
from diffusers import DiffusionPipeline
from transformers import AutoConfig, AutoModel
def digest(tensors):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for _, tensor in sorted(tensors.items()))).hexdigest()
for _ in range(2):
    pipeline = DiffusionPipeline.from_pretrained("toy/ddpm")
    config, model = AutoConfig.from_pretrained("toy/bert"), AutoModel.from_pretrained("toy/bert")
pipeline.set_progress_bar_config(disable=True)
image = pipeline(generator=torch.Generator().manual_seed(1), num_inference_steps=2, output_type="np").images
print(json.dumps([type(pipeline).__name__, type(model).__name__, config.hidden_size, list(image.shape),
                  digest(pipeline.unet.state_dict()), digest(model.state_dict())]))
"""


def digest(weights: Path) -> str:
    tensors = sorted(load_file(weights).items())
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for _, tensor in tensors)).hexdigest()


def test_diffusers_and_transformers_load_over_http(tmp_path: Path) -> None:
    toy = tmp_path / "hub" / "models" / "toy"
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=10)).save_pretrained(toy / "ddpm")
    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    BertModel(BertConfig(**sizes)).save_pretrained(toy / "bert")

    with HubServer(tmp_path / "hub") as server:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
        }
        environment |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        loaded = subprocess.run(
            [sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=False
        )
        asked = server.requests()
    assert loaded.returncode == 0, loaded.stderr
    weights = [toy / "ddpm" / "unet" / "diffusion_pytorch_model.safetensors", toy / "bert" / "model.safetensors"]
    assert json.loads(loaded.stdout) == ["DDPMPipeline", "BertModel", 8, [1, 8, 8, 3], *map(digest, weights)]

    # The second loading fetched no body again, and each weights file came whole.
    bodies = [(request.path.rpartition("/")[2], request.sent) for request in asked if request.sent]
    assert len(bodies) == len(set(bodies))
    assert {(path.name, path.stat().st_size) for path in weights} <= set(bodies)
    assert {request.status for request in asked} <= {200, 404}
    assert {request.method for request in asked} <= {"GET", "HEAD"}
