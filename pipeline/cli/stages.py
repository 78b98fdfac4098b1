"""`crawl`, `caption` and `sample`: one stage at a time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manifests.errors import InputError
from pipeline.cli.options import AsJson, Overrides

if TYPE_CHECKING:
    from pipeline.config import RunConfig

OptionalConfig = Annotated[Path | None, typer.Argument(metavar="CONFIG.yaml", help="the run's configuration")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("crawl")(crawl)
    app.command("caption")(caption)
    app.command("sample")(sample)


def crawl(
    config: OptionalConfig = None,
    endpoint: Annotated[str | None, typer.Option(help="hub's address; default: the config's")] = None,
    out: Annotated[Path | None, typer.Option(help="gets catalog.parquet; default: the config's output")] = None,
    count: Annotated[int | None, typer.Option(min=0, help="take the N most downloaded diffusers models")] = None,
    model: Annotated[list[str] | None, typer.Option(help="a model wanted by name, owner/name; repeatable")] = None,
    refresh: Annotated[bool, typer.Option(help="list the hub again and write a new snapshot")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="say what the catalog comes to: models, bytes, memory")
    ] = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """List the hub's models by downloads, pin each to a commit, and say which can be sampled and why others cannot.

    A catalog that is there already is reported on as it is, without asking the hub, unless more is asked for.

    Example: `commforge crawl --count 100 --out runs/mine` or `commforge crawl --report --out runs/mine`
    """
    from pipeline.stages.crawl import crawl_alone

    options: dict[str, tuple[str, object]] = {}
    if endpoint is not None:
        options["hub.endpoint"] = (f"--endpoint {endpoint}", endpoint)
    if count is not None:
        options["crawl.count"] = (f"--count {count}", count)
    if model:
        options["crawl.models"] = (" ".join(f"--model {name}" for name in model), model)
    resolved = _config(config, out, "--out", overrides, options)
    raise typer.Exit(crawl_alone(resolved, refresh=refresh, report=report, as_json=as_json))


def caption(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="the run's configuration")],
    overrides: Overrides = None,
) -> None:
    """Store the real photographs as label-0 rows and make the prompts: given captions, and a captioner's for the rest.

    Example: `commforge caption config.yaml`
    """
    from pipeline.context import open_run
    from pipeline.stages.caption import caption as run_caption

    with open_run(_config(config, None, "", overrides, {})) as context:
        run_caption(context)


def sample(
    config: OptionalConfig = None,
    catalog: Annotated[Path | None, typer.Option(help="catalog.parquet of a crawl")] = None,
    prompts: Annotated[Path | None, typer.Option(help="prompts.parquet of a caption stage")] = None,
    dataset: Annotated[Path | None, typer.Option(help="dataset that gets the images; made if missing")] = None,
    images_per_model: Annotated[int | None, typer.Option(min=1, help="images wanted from each generator")] = None,
    executor: Annotated[Literal["inline", "ray"] | None, typer.Option(help="where workers run")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="workers that sample at the same time")] = None,
    endpoint: Annotated[str | None, typer.Option(help="hub's address; default: the config's")] = None,
    retry: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="try units with this status again; repeatable"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Sample the images that are missing, and commit them unit by unit.

    Example: `commforge sample --catalog runs/mine/catalog.parquet --prompts runs/mine/prompts.parquet
    --dataset runs/mine/dataset --images-per-model 100 --executor ray --workers 2`
    """
    from pipeline.stages.sample import sample_alone

    options: dict[str, tuple[str, object]] = {}
    if images_per_model is not None:
        options["sample.images_per_generator"] = (f"--images-per-model {images_per_model}", images_per_model)
    if executor is not None:
        options["execute.executor"] = (f"--executor {executor}", executor)
    if workers is not None:
        options["execute.workers"] = (f"--workers {workers}", workers)
    if endpoint is not None:
        options["hub.endpoint"] = (f"--endpoint {endpoint}", endpoint)
    if config is None and dataset is None:
        raise InputError("sample needs a CONFIG.yaml or --dataset (with --catalog and --prompts)")
    output = None if config else (dataset or Path()).parent
    resolved = _config(config, output, "--dataset", overrides, options)
    raise typer.Exit(sample_alone(resolved, catalog=catalog, prompts=prompts, dataset=dataset, retry=retry or []))


def _config(
    path: Path | None,
    output: Path | None,
    output_option: str,
    overrides: list[str] | None,
    options: dict[str, tuple[str, object]],
) -> "RunConfig":
    """Return the config with `--set` applied, and then the options: config key → (as it was typed, value)."""
    from pipeline.resolve import config_from_options, load_config

    if path is not None and output is not None:
        options = options | {"output": (f"{output_option} {output}", str(output))}
    # As JSON, which is YAML: a value with ": " or " #" in it stays one text.
    typed = {f"{key}={json.dumps(value, ensure_ascii=False)}": option for key, (option, value) in options.items()}
    settings = (*(overrides or ()), *typed)
    try:
        if path is not None:
            return load_config(path, settings)
        if output is None:
            raise InputError(f"give a CONFIG.yaml or {output_option}")
        if (output / "run.yaml").is_file():  # the run that the folder holds, not one with defaults in its place
            return load_config(output / "run.yaml", settings)
        return config_from_options(output, settings)
    except InputError as error:
        words = str(error)
        for setting, option in typed.items():
            words = words.replace(f"--set {setting}: ", f"{option}: ")
        raise InputError(words) from error
