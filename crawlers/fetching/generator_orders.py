"""What to fetch for a generator: from its own repo what is its own, from its base what it is loaded into."""

import posixpath

from crawlers.fetching.download_order import DownloadOrder, checked_commit
from manifests.generator import BasePipeline, GeneratorSpec


def generator_orders(spec: GeneratorSpec) -> tuple[DownloadOrder, ...]:
    """Return the order for the generator's own repo and, if it has a base, the one for that.

    A whole pipeline is taken with its configs and tokenizers; of an adapter, a checkpoint in one file or an embedding
    only that file and the configs beside it; of a component its folder.

    Raises:
        InputError: a revision is not a commit.
    """
    own = _pipeline(spec) if spec.packaging == "pipeline" else _part(spec)
    return (own,) if spec.base is None else (own, _base(spec, spec.base))


def _pipeline(spec: GeneratorSpec) -> DownloadOrder:
    return DownloadOrder(
        repo_id=spec.repo_id,
        revision=checked_commit(spec.repo_id, spec.revision),
        files=spec.files,
        subfolder=spec.subfolder,
        variant=spec.variant,
    )


def _part(spec: GeneratorSpec) -> DownloadOrder:
    folder = spec.subfolder or ""
    if spec.weight_name is not None:
        folders = {posixpath.dirname(spec.weight_name), posixpath.dirname(posixpath.join(folder, spec.weight_name))}
    else:
        folders = {posixpath.dirname(file.path) for file in spec.files} or {folder}
    listed = {file.path for file in spec.files}
    # A manifest may name the file within the subfolder, as diffusers does; the catalog names it within the repo.
    weight_name = spec.weight_name
    if weight_name is not None and weight_name not in listed and folder and not weight_name.startswith(f"{folder}/"):
        weight_name = posixpath.join(folder, weight_name)
    return DownloadOrder(
        repo_id=spec.repo_id,
        revision=checked_commit(spec.repo_id, spec.revision),
        files=spec.files,
        subfolder=None if spec.weight_name is not None or spec.files else spec.subfolder,
        variant=spec.variant,
        weight_name=weight_name,
        config_folders=tuple(sorted(folders)),
    )


def _base(spec: GeneratorSpec, base: BasePipeline) -> DownloadOrder:
    return DownloadOrder(
        repo_id=base.repo_id,
        revision=checked_commit(base.repo_id, base.revision),
        files=base.files,
        subfolder=base.subfolder,
        variant=base.variant,
        # The catalog chooses the base's weights that are needed, and a row of a checkpoint that lacks parts repeats its
        # choice: one without any is complete, unless it is one component's. Nothing else can do without the base's
        # weights; where they are not named, as in its rows, they are chosen as for any pipeline.
        configs_only=not base.files and spec.packaging == "single-file" and spec.component is None,
    )
