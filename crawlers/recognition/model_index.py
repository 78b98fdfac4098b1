"""model_index.json: the class of a pipeline and its components, checked."""

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

MODEL_INDEX = "model_index.json"

_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "FeatureExtractor", "Processor", "ProcessorFast")
REPLACED_COMPONENTS = frozenset({"safety_checker", "watermarker"})
"""Components that pipelines are loaded without: every image is scored by one checker of ours, none is watermarked."""


class BadModelIndexError(ValueError):
    """The file is not a pipeline description; the message says why."""


@dataclass(frozen=True)
class Component:
    """One part of a pipeline: the folder it lies in, and the library and class that read it."""

    name: str
    library: str
    class_name: str

    @property
    def needs_weights(self) -> bool:
        """True for a model; False for schedulers, tokenizers, image processors and parts that are replaced."""
        return self.name not in REPLACED_COMPONENTS and not self.class_name.endswith(_WITHOUT_WEIGHTS)


@dataclass(frozen=True)
class ModelIndex:
    """A pipeline description.

    Attributes:
        folder: of the pipeline inside the repo, "" for the root.
        pipeline_class: `_class_name`.
        custom_code: the repo's own module that defines the pipeline, when `_class_name` names one.
        components: in the order of the file; unused ones (null) are left out.
        options: what else the file sets, such as `is_distilled`.
    """

    folder: str
    pipeline_class: str
    custom_code: str | None
    components: tuple[Component, ...]
    options: Mapping[str, Any]

    def component(self, *names: str) -> Component | None:
        """Return the first of these components that the pipeline has."""
        return next((part for name in names for part in self.components if part.name == name), None)

    def path(self, *parts: str) -> str:
        """Return a path inside the repo."""
        return posixpath.join(self.folder, *parts)

    def code_files(self, paths: Collection[str]) -> list[str]:
        """Return the repo's Python files that loading this pipeline would run."""
        names = [self.custom_code] if self.custom_code else []
        wanted = {self.path(f"{name}.py") for name in names}
        wanted |= {self.path(part.name, f"{part.library}.py") for part in self.components}
        return sorted(wanted & set(paths)) or [f"{name}.py" for name in names]


def find_model_indexes(paths: Collection[str]) -> list[str]:
    """Return the folders that hold a pipeline, nearest to the root first; "" is the root.

    At most one level deep: a component such as a prior may be a pipeline's own folder further down.
    """
    found = [posixpath.dirname(path) for path in paths if posixpath.basename(path) == MODEL_INDEX]
    return sorted((folder for folder in found if folder.count("/") == 0), key=lambda folder: (folder != "", folder))


def parse_model_index(content: Any, folder: str = "") -> ModelIndex:
    """Check the parsed JSON of a model_index.json.

    Raises:
        BadModelIndexError: it does not describe a pipeline.
    """
    if not isinstance(content, dict):
        raise BadModelIndexError(f"{MODEL_INDEX} is a JSON {type(content).__name__}, not an object")
    named = content.get("_class_name")
    custom_code = None
    if isinstance(named, list) and len(named) == 2 and all(isinstance(part, str) and part for part in named):
        custom_code, named = named
    if not isinstance(named, str) or not named:
        raise BadModelIndexError(f"_class_name is {named!r}, not the name of a pipeline")
    components = []
    options = {}
    for key, value in content.items():
        if key.startswith("_"):
            continue
        if not isinstance(value, list):
            options[key] = value
        elif len(value) == 2 and all(isinstance(part, str) for part in value):
            components.append(Component(key, *value))
        elif len(value) == 2 and all(part is None for part in value):
            continue
        elif any(isinstance(part, str) and part[:1].isupper() for part in value):
            raise BadModelIndexError(f"component {key} is {value!r}, not [library, class]")
        else:
            options[key] = value
    if not components:
        raise BadModelIndexError("no component is named")
    return ModelIndex(folder, named, custom_code, tuple(components), options)
