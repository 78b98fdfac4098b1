"""Options that several commands share, so that they look and read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="the run's configuration")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder, such as runs/demo")]
DatasetPath = Annotated[Path, typer.Argument(metavar="DATASET", help="a dataset's folder, such as runs/demo/dataset")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override a key of the config, e.g. execute.workers=2; repeatable"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document for programs")]
