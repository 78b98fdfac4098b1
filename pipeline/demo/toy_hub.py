"""The toy hub: every toy repo in one folder, in the layout that `crawlers.hub_server` serves."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import InputError, system_words
from pipeline.demo.bad_models import BAD_MODELS
from pipeline.demo.toy_captioner import CAPTIONER_REPO, build_captioner
from pipeline.demo.toy_checker import CHECKER_REPO, build_checker
from pipeline.demo.toy_generators import TOY_GENERATORS
from pipeline.demo.toy_model import ToyModel

_HELPERS = (
    ToyModel(
        repo_id=CAPTIONER_REPO,
        title="Toy captioner",
        build=build_captioner,
        license="bsd-3-clause",
        downloads=2_000,
        created_at="2022-12-12T09:00:00Z",
        pipeline_tag="image-to-text",
        library_name="transformers",
        row_status=None,
    ),
    ToyModel(
        repo_id=CHECKER_REPO,
        title="Toy safety checker",
        build=build_checker,
        license="creativeml-openrail-m",
        downloads=1_000,
        created_at="2022-08-22T09:00:00Z",
        library_name="transformers",
        row_status=None,
    ),
)

TOY_MODELS: dict[str, ToyModel] = {
    **TOY_GENERATORS,
    **BAD_MODELS,
    **{model.repo_id: model for model in _HELPERS},
}
"""Every repo of the toy hub by repo id."""


@dataclass(frozen=True)
class ToyHub:
    """A built toy hub. `root` is what the hub server serves; `models` are the repos that it holds."""

    root: Path
    seed: int
    models: dict[str, ToyModel]

    def folder(self, repo_id: str) -> Path:
        """Return the folder with the files of `repo_id`."""
        return self.root / "models" / repo_id


def build_toy_hub(root: Path, seed: int = 0, models: Iterable[str] | None = None) -> ToyHub:
    """Write the toy repos below `root`, and return what is there.

    Equal seeds give equal bytes, file by file, within one set of library versions. A repo that is already there is
    replaced as a whole; a repo is either complete or absent, wherever the building was stopped.

    Args:
        root: folder of the hub; made if missing.
        seed: of all random weights, but for the checker's (see `toy_checker`).
        models: ids of the repos to build; all of `TOY_MODELS` if None.

    Raises:
        InputError: an unknown repo id, or `root` cannot be written.
    """
    wanted = list(TOY_MODELS if models is None else models)
    for repo_id in wanted:
        if repo_id not in TOY_MODELS:
            raise InputError(f"toy hub: unknown model {repo_id!r}; allowed: {', '.join(TOY_MODELS)}")
    draft = root / ".building"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{root}: the toy hub cannot be written here: {system_words(error)}") from error
    hub = ToyHub(root=root, seed=seed, models={repo_id: TOY_MODELS[repo_id] for repo_id in wanted})
    with _without_progress_bars():
        for repo_id, model in hub.models.items():
            folder = draft / repo_id
            folder.mkdir(parents=True)
            model.write(folder, seed)
            target = hub.folder(repo_id)
            if target.exists():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
    shutil.rmtree(draft)
    return hub


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Saving draws a bar for every component; the caller reports progress in its own way."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggers = (diffusers_logging, transformers_logging)
    enabled = [logger for logger in loggers if logger.is_progress_bar_enabled()]
    for logger in enabled:
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger in enabled:
            logger.enable_progress_bar()
