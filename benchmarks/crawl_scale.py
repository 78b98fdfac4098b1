"""Memory of a crawl over 10,000, 100,000 and 1,000,000 listed models: it must not grow with them.

A hub of this machine lists the models page by page over HTTP; the crawl is the real one, in a process of its own, with
listing, journal, lineage and catalog. Its filters leave out all but 1 in 2,000 models by the listing alone, as a crawl
of a whole hub for one task would; the others are asked for. The figure is the largest crawl's peak resident memory
over the smallest's.

    python -m benchmarks.crawl_scale [--sizes 10000 100000 1000000]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.listing_hub import listing_hub
from benchmarks.side_by_side import report

SHARE = 2_000
BAR = 1.5

CRAWL = """
import json, resource, sys, time
from pathlib import Path
import crawlers.hub.hub_client, huggingface_hub.hf_api, crawlers.recognition.inspection
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
started, cpu = time.perf_counter(), time.process_time()
result = crawl(CrawlRequest(endpoint=sys.argv[1], tasks=("text-to-image",)), Path(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({
    "peak_mib": peak, "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu,
    "rows": result.rows, "asked": result.asked, "requests": result.requests,
    "catalog_bytes": result.path.stat().st_size,
}))
"""


def crawl_of(size: int) -> dict[str, Any]:
    """Return what a crawl of a hub with `size` listed models took."""
    with listing_hub(size, SHARE) as endpoint, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", CRAWL, endpoint, folder], check=True, capture_output=True, text=True
        )
        left = sorted(path.name for path in Path(folder).iterdir())
    taken: dict[str, Any] = json.loads(done.stdout)
    if taken["rows"] != size or taken["asked"] != -(-size // SHARE) or left != [".catalog.lock", "catalog.parquet"]:
        raise RuntimeError(f"not the crawl that was to be measured: {taken}, {left}")
    print(
        f"  {size:>9,} listed: peak {taken['peak_mib']:.0f} MiB, {taken['seconds']:.1f} s, "
        f"{taken['cpu_seconds'] / size * 1e6:.0f} µs CPU a model, catalog {taken['catalog_bytes'] / size:.0f} bytes a "
        f"model, {taken['requests']['api']} requests",
        file=sys.stderr,
        flush=True,
    )
    return taken


def main() -> int:
    """Measure each size once, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    sizes = sorted(parser.parse_args().sizes)
    taken = {size: crawl_of(size) for size in sizes}
    growth = taken[sizes[-1]]["peak_mib"] / taken[sizes[0]]["peak_mib"]
    facts = {
        f"{size:,} listed": {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        for size, row in taken.items()
    }
    return report("crawl_memory_growth", growth, BAR, at_least=False, **facts)


if __name__ == "__main__":
    sys.exit(main())
