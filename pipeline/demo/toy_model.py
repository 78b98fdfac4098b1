"""What a toy repo is: how its files are built, its model card, and what the toy hub says about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Builder = Callable[[Path, int], None]
"""Writes a repo's model files into a folder, with random weights from a seed."""


@dataclass(frozen=True)
class ToyModel:
    """One repo of the toy hub.

    `card` is the front matter of README.md; `steps` and `guidance_scale` go there as the hub's widget parameters.
    `catalog_reason` is what a crawl must say of the repo, and `row_status` what its rows must end with (None for
    a repo that is never sampled).
    """

    repo_id: str
    title: str
    build: Builder
    license: str
    downloads: int
    created_at: str
    pipeline_class: str | None = None
    pipeline_tag: str | None = None
    library_name: str = "diffusers"
    steps: int | None = None
    guidance_scale: float | None = None
    base_model: str | None = None
    tags: tuple[str, ...] = ()
    gated: str | None = None
    behaviour: Mapping[str, object] = field(default_factory=dict)
    catalog_reason: str = "ok"
    row_status: str | None = "ok"

    def write(self, folder: Path, seed: int) -> None:
        """Write the whole repo into the new folder `folder`: model files, README.md and .hub.yaml."""
        import yaml

        self.build(folder, seed)
        front_matter = yaml.safe_dump(self.card(), sort_keys=False)
        text = f"---\n{front_matter}---\n\n# {self.title}\n\nA tiny model with random weights, for trying things out.\n"
        (folder / "README.md").write_text(text, encoding="utf-8")
        (folder / ".hub.yaml").write_text(yaml.safe_dump(self.hub_record(), sort_keys=False), encoding="utf-8")
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # safetensors writes owner-only files

    def card(self) -> dict[str, object]:
        """Return the front matter of the model card."""
        card: dict[str, object] = {"license": self.license, "library_name": self.library_name}
        if self.pipeline_tag:
            card["pipeline_tag"] = self.pipeline_tag
        if self.base_model:
            card["base_model"] = self.base_model
        if self.tags:
            card["tags"] = list(self.tags)
        parameters = {"num_inference_steps": self.steps, "guidance_scale": self.guidance_scale}
        given = {name: value for name, value in parameters.items() if value is not None}
        if given:
            card["inference"] = {"parameters": given}
        return card

    def hub_record(self) -> dict[str, object]:
        """Return the content of .hub.yaml, see `crawlers.hub_server`."""
        record: dict[str, object] = {
            "downloads": self.downloads,
            "likes": self.downloads // 40,
            "created_at": self.created_at,
            "library_name": self.library_name,
        }
        if self.pipeline_class:
            record["tags"] = [*self.tags, f"diffusers:{self.pipeline_class}"]
        if self.gated:
            record["gated"] = self.gated
        if self.behaviour:
            record["behaviour"] = dict(self.behaviour)
        return record
