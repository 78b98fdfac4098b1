"""Bytes that a hub sends for a catalog whose models share components, against the bytes that differ.

Sixteen pipelines of three bases, re-uploads among them, and ten adapters, components, checkpoints and embeddings lie on
a hub with everything that repos hold besides: half precision, pickles, samples. Two workers fetch them into one cache,
each fetching ahead, through real processes and HTTP. The hub counts what it sends; what would have had to be sent is
counted from the files themselves.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import report
from crawlers.fetching.model_cache import ModelCache
from crawlers.hub.hub_client import HubClient
from crawlers.hub_server.server import HubServer
from manifests.generator import BasePipeline, GeneratorSpec, WeightFile

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT, TEXT_2 = "text_encoder/model.safetensors", "text_encoder_2/model.safetensors"
SIZES = {UNET: 3_440_000, VAE: 335_000, TEXT: 492_000, TEXT_2: 2_780_000}
"""Bytes: a thousandth of Stable Diffusion's."""
CLASSES = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
}


@dataclass
class Catalog:
    """A hub's folder, the generators on it and the files that these need: (repo, path)."""

    root: Path
    specs: list[dict[str, Any]] = field(default_factory=list)
    needed: set[tuple[str, str]] = field(default_factory=set)

    def write(self, repo_id: str, files: dict[str, bytes]) -> None:
        for path, content in files.items():
            target = self.root / "models" / repo_id / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def needed_bytes(self) -> tuple[int, int]:
        """Return the bytes of all needed files, and of those that differ."""
        sizes: dict[str, int] = {}
        naive = 0
        for repo_id, path in self.needed:
            content = (self.root / "models" / repo_id / path).read_bytes()
            sizes[hashlib.sha256(content).hexdigest()] = len(content)
            naive += len(content)
        return naive, sum(sizes.values())


def build(root: Path) -> Catalog:
    """Write the hub; the same every time."""
    made, catalog = random.Random(0), Catalog(root)
    families = {"sd": (UNET, VAE, TEXT), "sdxl": (UNET, VAE, TEXT, TEXT_2), "other": (UNET, VAE, TEXT)}
    for family, parts in families.items():
        shared = {part: made.randbytes(SIZES[part]) for part in parts}
        vocabulary = json.dumps([made.random() for _ in range(20_000)]).encode()
        for number in range(6 if family != "other" else 4):
            own = shared if number == 3 else {**shared, UNET: made.randbytes(SIZES[UNET])}  # 3: uploaded again
            _pipeline(catalog, f"{family}/model-{number}", own, vocabulary, made)
    base = "sd/model-0"
    for number in range(4):
        _part(catalog, f"a/lora-{number}", "lora", "pixel.safetensors", made.randbytes(37_000), base)
    for number in range(2):
        _part(catalog, f"a/unet-{number}", "component", UNET, made.randbytes(SIZES[UNET]), base)
        _part(catalog, f"a/file-{number}", "single-file", "model.safetensors", made.randbytes(4_270_000), base)
        _part(catalog, f"a/token-{number}", "textual-inversion", "learned.safetensors", made.randbytes(4_000), base)
    return catalog


def _pipeline(
    catalog: Catalog, repo_id: str, weights: dict[str, bytes], vocabulary: bytes, made: random.Random
) -> None:
    parts = sorted({path.split("/")[0] for path in weights})
    index = {"_class_name": "StableDiffusionPipeline", **{part: CLASSES[part] for part in parts}}
    files = weights | {
        "model_index.json": json.dumps(index | {"tokenizer": ["transformers", "CLIPTokenizer"]}).encode(),
        "tokenizer/vocab.json": vocabulary,
        **{f"{part}/config.json": json.dumps({"of": part}).encode() for part in parts},
    }
    half = {path.replace(".safetensors", ".fp16.safetensors"): len(content) // 2 for path, content in weights.items()}
    noise = {path: made.randbytes(size) for path, size in half.items()}
    noise |= {path.replace(".safetensors", ".bin"): made.randbytes(10_000) for path in weights}
    catalog.write(repo_id, files | noise | {"sample.png": made.randbytes(50_000)})
    catalog.needed |= {(repo_id, path) for path in files}
    catalog.specs.append({"repo_id": repo_id, "weights": sorted(weights)})


def _part(catalog: Catalog, repo_id: str, packaging: str, path: str, content: bytes, base: str) -> None:
    catalog.write(repo_id, {path: content, "older/epoch-10.safetensors": content[::-1], "sample.png": content[:9]})
    catalog.needed.add((repo_id, path))
    catalog.specs.append({"repo_id": repo_id, "packaging": packaging, "weights": [path], "base": base})


def pinned(catalog: Catalog, endpoint: str) -> list[GeneratorSpec]:
    """Return the generators as a catalog would have them: pinned, with the hashes that the hub announces."""
    client = HubClient(endpoint)
    listed = {entry["repo_id"]: client.model_info(entry["repo_id"]) for entry in catalog.specs}
    return [_spec(entry, listed, catalog) for entry in catalog.specs]


def _spec(entry: dict[str, Any], listed: dict[str, Any], catalog: Catalog) -> GeneratorSpec:
    base = entry.get("base")
    packaging = entry.get("packaging", "pipeline")
    replaced = {"component": {UNET}, "single-file": {UNET, VAE, TEXT}}.get(packaging, set())
    return GeneratorSpec(
        name=entry["repo_id"].replace("/", "-"),
        kind="text-to-image",
        packaging=packaging,
        repo_id=entry["repo_id"],
        revision=listed[entry["repo_id"]].sha,
        files=_files(listed[entry["repo_id"]], entry["weights"]),
        weight_name=entry["weights"][0] if packaging not in ("pipeline", "component") else None,
        component="unet" if packaging == "component" else None,
        base=None
        if base is None
        else BasePipeline(
            repo_id=base,
            revision=listed[base].sha,
            files=_files(listed[base], sorted({UNET, VAE, TEXT} - replaced)),
        ),
    )


def _files(info: Any, paths: list[str]) -> tuple[WeightFile, ...]:
    files = {file.rfilename: file for file in info.siblings}
    return tuple(WeightFile(path=p, size=files[p].size, sha256=files[p].lfs["sha256"]) for p in paths)


def fetch_all(specs: list[GeneratorSpec], endpoint: str, cache: Path) -> int:
    """Be a worker: fetch each generator, have the next two fetched ahead, let go. Returns bytes that it counted."""
    with ModelCache(endpoint=endpoint, cache_dir=cache, token=None, timeout_seconds=600, prefetch=2) as models:
        for number, spec in enumerate(specs):
            with models.fetch(spec):
                models.prefetch(specs[number + 1 :])
        return models.take_traffic().fetched


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--workers", type=int, default=2)
    workers = options.parse_args().workers
    with tempfile.TemporaryDirectory() as folder:
        catalog = build(Path(folder) / "hub")
        naive, unique = catalog.needed_bytes()
        with HubServer(catalog.root) as hub, ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            specs = pinned(catalog, hub.endpoint)
            since = len(hub.requests())
            cache = Path(folder) / "cache"
            shares = [pool.submit(fetch_all, specs[n::workers], hub.endpoint, cache) for n in range(workers)]
            counted = sum(share.result() for share in shares)
            asked = hub.requests(since)
        sent = sum(record.sent for record in asked)
        print(f"  {len(specs)} models, {naive} bytes one by one, {unique} unique; {sent} sent, {counted} counted by us")
        requests = len(asked) / len(specs)
        return report(
            "bytes_fetched",
            sent / unique,
            1.01,
            at_least=False,
            models=len(specs),
            workers=workers,
            naive_bytes=naive,
            unique_bytes=unique,
            sent_bytes=sent,
            counted_bytes=counted,
            requests_per_model=round(requests, 1),
        )


if __name__ == "__main__":
    sys.exit(main())
