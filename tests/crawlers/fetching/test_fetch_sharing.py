"""Equal bytes cross the network once and lie on the disk once, whoever wants them and when."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from fetching import PIPELINE_FILES, TEXT, UNET, VAE, bodies, files_in, order

from crawlers.catalog import eligible_generators
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.fetching.fetch import fetch_generator
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer


def test_generators_of_a_catalog_share_what_they_share(hub_folder: Any, tmp_path: Path) -> None:
    """The text encoder and VAE of both are equal bytes: they cross the network once and lie on the disk once."""
    for number in (1, 2):
        hub_folder.sd(f"a/model-{number}", downloads=100 - number)
    with HubServer(hub_folder.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint), tmp_path / "out")
        since = len(hub.requests())
        first, second = eligible_generators(tmp_path / "out")
        folders = [
            fetch_generator(spec, endpoint=hub.endpoint, cache_dir=tmp_path / "cache").folder
            for spec in (first, second)
        ]
        assert [files_in(folder) for folder in folders] == [PIPELINE_FILES] * 2
        fetched = {name for name in bodies(hub, since) if name.endswith(".safetensors")}
        assert fetched == {f"a/model-1:{name}" for name in (TEXT, UNET, VAE)} | {f"a/model-2:{UNET}"}
    for name in (TEXT, VAE):
        assert (folders[0] / name).stat().st_ino == (folders[1] / name).stat().st_ino
    assert (folders[0] / UNET).read_bytes() != (folders[1] / UNET).read_bytes()


def test_downloads_of_equal_weights_at_the_same_time_fetch_them_once(hub_folder: Any, tmp_path: Path) -> None:
    shared = b"the same unet" * 4000
    for number in (1, 2):
        hub_folder.sd(f"a/model-{number}", unet=shared)
    cache = tmp_path / "cache"
    with HubServer(hub_folder.root, HubOptions(bandwidth=60_000)) as hub:
        orders = [order(hub, f"a/model-{number}") for number in (1, 2)]
        code = (
            "import sys; from pathlib import Path\n"
            "from crawlers.fetching.download import Downloads\n"
            "from crawlers.fetching.download_order import DownloadOrder\n"
            "order = DownloadOrder.model_validate_json(sys.argv[1])\n"
            "Downloads(sys.argv[2], Path(sys.argv[3]), None).run([order])"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code, o.model_dump_json(), hub.endpoint, str(cache)])
            for o in orders
        ]
        assert [process.wait(60) for process in processes] == [0, 0]
        fetched = [name.split(":")[1] for name in bodies(hub) if name.endswith(".safetensors")]
    assert sorted(fetched) == sorted([TEXT, UNET, VAE])
