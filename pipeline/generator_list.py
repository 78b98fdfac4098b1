"""The generators that a run's catalog, a manifest or the package names."""

from pathlib import Path

from crawlers.catalog import eligible_generators
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.library import list_manifests, load_generators
from pipeline.run_folder import RunFolder


def find_generators(source: Path | None) -> list[GeneratorSpec]:
    """Return the generators of a run's folder, a catalog or a manifest; of the packaged manifests for None.

    Raises:
        InputError: the source is none of these, or is broken.
    """
    if source is None:
        return [generator for path in list_manifests("generators") for generator in load_generators(path)]
    if source.is_dir():
        catalog = RunFolder.at(source).catalog
        if not catalog.exists():
            raise InputError(f"{source}: there is no catalog.parquet; run `commforge crawl` first")
        return eligible_generators(catalog)
    if source.suffix == ".parquet":
        return eligible_generators(source)
    return load_generators(source)


def find_generator(name: str, source: Path | None) -> GeneratorSpec:
    """Return one generator by its name or repo id.

    Raises:
        InputError: there is none of that name; the message lists those there are.
    """
    generators = find_generators(source)
    for generator in generators:
        if name in (generator.name, generator.repo_id):
            return generator
    known = ", ".join(sorted(generator.repo_id for generator in generators)[:20]) or "none"
    raise InputError(f"no generator {name!r} in {source or 'the packaged manifests'}; there are: {known}")


def parameter_rows(generator: GeneratorSpec) -> list[tuple[str, object, str | None]]:
    """Return (parameter, value, where it came from) for every parameter that is set."""
    params = generator.params
    values = params.model_dump(exclude={"sources", "call_kwargs"}, exclude_defaults=True) | params.call_kwargs
    return [(key, value, params.sources.get(key)) for key, value in values.items()]
