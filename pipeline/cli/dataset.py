"""`dataset`: look at a dataset, check it, tidy it, make one of its images again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.options import AsJson, DatasetPath
from pipeline.exit_codes import ExitCode

app = typer.Typer(
    help="Look at a dataset, check it, tidy it, make its images again.\n\n"
    "Example: `commforge dataset info runs/demo/dataset`",
    no_args_is_help=True,
)


@app.command()
def info(dataset: DatasetPath, as_json: AsJson = False) -> None:
    """Say what a dataset holds: generators, images by status, size, identity settings.

    Example: `commforge dataset info runs/demo/dataset`
    """
    from pipeline.cli.output import print_json, print_table
    from pipeline.dataset_info import describe_dataset

    description = describe_dataset(dataset)
    if as_json:
        print_json(description)
        return
    print(f"{description['name']}: {description['units']} units, {description['bytes'] / 2**20:.1f} MiB of images")
    rows = [
        (name, entry["label"], entry["draws"], entry["ok"], entry["flagged"], entry["degenerate"], entry["failed"])
        for name, entry in description["generators"].items()
    ]
    print_table(("generator", "label", "draws", "ok", "flagged", "degenerate", "failed"), rows)


@app.command()
def index(dataset: DatasetPath) -> None:
    """Compact the committed rows into index/*.parquet and pairs.parquet, for pandas, DuckDB and polars.

    Example: `commforge dataset index runs/demo/dataset`
    """
    from shards.index import build_index

    print(build_index(dataset))


@app.command()
def verify(dataset: DatasetPath, as_json: AsJson = False) -> None:
    """Check every byte: shard hashes, rows against images, counts, commits. Exit code 1 when something is wrong.

    Example: `commforge dataset verify runs/demo/dataset`
    """
    from pipeline.cli.output import print_json
    from shards.verify import verify as verify_dataset

    findings = verify_dataset(dataset)
    wrong = [finding for finding in findings if not finding.kind.remark]
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    else:
        for finding in findings:
            print(f"{'error' if not finding.kind.remark else 'note'}: {finding.kind}: {finding.file}: {finding.detail}")
        print("no errors" if not wrong else f"{len(wrong)} errors")
    raise typer.Exit(ExitCode.DONE_WITH_FAILURES if wrong else ExitCode.DONE)


@app.command()
def audit(dataset: DatasetPath, as_json: AsJson = False) -> None:
    """Count before anyone trains: draws by status and reason, splits, formats and sizes, licences; do they reconcile?

    Example: `commforge dataset audit runs/demo/dataset`
    """
    from pipeline.cli.output import print_json
    from pipeline.stages.audit import audit_lines
    from shards.audit.counts import count_rows

    counts = count_rows(dataset)
    if as_json:
        print_json(counts)
        return
    for line in audit_lines(counts):
        print(line)


@app.command()
def gc(
    dataset: DatasetPath,
    now: Annotated[bool, typer.Option("--now", help="also files under an hour old; only when nothing writes")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    """Remove what no commit names: shards of killed workers, stale temporary files.

    Example: `commforge dataset gc runs/demo/dataset --dry-run`
    """
    from shards.gc import collect

    removed = collect(dataset, now=now, dry_run=dry_run)
    for file in removed:
        print(file)
    print(f"{len(removed)} files {'would be ' if dry_run else ''}removed")


@app.command()
def regenerate(
    dataset: DatasetPath,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE_ID", help="image_id of a row")],
    verify_bytes: Annotated[bool, typer.Option("--verify", help="compare with the stored bytes")] = False,
    out: Annotated[Path | None, typer.Option(help="write the image to this file")] = None,
    endpoint: Annotated[str, typer.Option(help="hub's address")] = "https://huggingface.co",
    cache: Annotated[Path | None, typer.Option(help="folder of downloaded models")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where to sample")] = "auto",
) -> None:
    """Make an image again from its row: its whole batch is replayed, at the pinned revision.

    Example: `commforge dataset regenerate runs/demo/dataset 0123456789abcdef0123456789abcdef --verify`
    """
    from pipeline.regenerate import regenerate as regenerate_image

    code = regenerate_image(
        dataset,
        image_id,
        verify=verify_bytes,
        out=out,
        endpoint=endpoint,
        cache=cache,
        device=device,
    )
    raise typer.Exit(code)
