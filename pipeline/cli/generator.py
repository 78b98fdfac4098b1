"""`generator`: see what a catalog or manifest makes of a generator."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import AsJson

app = typer.Typer(
    help="The generators of a run or manifest, and how each would be sampled.\n\n"
    "Example: `commforge generator list runs/demo`",
    no_args_is_help=True,
)

Source = Annotated[
    Path | None,
    typer.Argument(metavar="RUN|FILE.yaml", help="a run or a manifest; default: the packaged ones"),
]


@app.command("list")
def list_generators(source: Source = None, as_json: AsJson = False) -> None:
    """List generators: of a run's catalog, of a manifest, or the packaged ones.

    Example: `commforge generator list runs/demo`
    """
    from pipeline.cli.output import print_json, print_table
    from pipeline.generator_list import find_generators

    generators = find_generators(source)
    if as_json:
        print_json([generator.model_dump(mode="json") for generator in generators])
        return
    print_table(
        ("generator", "kind", "packaging", "family", "architecture", "licence", "revision"),
        [
            (g.repo_id, g.kind, g.packaging, g.family, g.architecture, g.license, (g.revision or "")[:12])
            for g in generators
        ],
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name or hub repo of the generator")],
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """Show one generator: its sampling parameters, and where each came from.

    Example: `commforge generator show crayon-labs/toy-diffusion-v1 runs/demo`
    """
    from pipeline.cli.output import print_json, print_table
    from pipeline.generator_list import find_generator, parameter_rows

    generator = find_generator(name, source)
    if as_json:
        print_json(generator.model_dump(mode="json"))
        return
    facts = generator.model_dump(mode="json", exclude={"params", "files", "base"})
    if generator.base is not None:
        facts["base"] = f"{generator.base.repo_id}@{generator.base.revision}"
    print_table(("key", "value"), [(key, value) for key, value in facts.items() if value is not None])
    print()
    print_table(("parameter", "value", "from"), parameter_rows(generator))
