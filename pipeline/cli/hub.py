"""`hub`: a hub of one's own."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="A read-only hub from a folder, for air-gapped clusters, tests and the demo.\n\n"
    "Example: `commforge hub serve runs/demo/toy/hub --port 8950`",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keep `serve` a command of its own."""


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="holds models/OWNER/NAME/…, one folder a repo")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port")] = 8950,
    bandwidth: Annotated[
        float | None, typer.Option(min=1, help="bytes a second for all clients together; default: no limit")
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="seconds before every answer")] = 0.0,
) -> None:
    """Serve a folder of repos the way the hub does; huggingface_hub, diffusers and transformers can use it as it is.

    Example: `commforge hub serve runs/demo/toy/hub --port 8950`, then `HF_ENDPOINT=http://127.0.0.1:8950 …`
    """
    from crawlers.hub_server.options import HubOptions
    from crawlers.hub_server.server import serve as serve_hub

    def ready(endpoint: str) -> None:
        print(f"{endpoint} serves {folder}; Ctrl-C ends it", flush=True)

    serve_hub(folder, host, port, HubOptions(bandwidth=bandwidth, latency=latency), ready=ready)
