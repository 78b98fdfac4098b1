"""Where a campaign takes place: a toy hub that can be disturbed, small disks, a clock that jumps, and two runs."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.clock import Clock, why_no_clock
from chaos.disks import SmallDisk, why_no_disks
from chaos.native_faults import NativeFaults
from chaos.processes import Processes
from toy_runs import COMMFORGE, ToyWorld, commforge, copy_run, environment, small_config, write_yaml

from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from pipeline.demo.photos import build_photos
from pipeline.demo.toy_checker import CHECKER_REPO
from pipeline.demo.toy_hub import build_toy_hub

UNIT_IMAGES = 3
NAN_BY_NATURE = 0
"""Number of the curse that both runs are under."""
NAN_DIVISOR = 13
"""Draws whose seeds it divides are NaN."""
DISK_MEBIBYTES = {"run": 96, "spool": 16, "cache": 64}
PATIENCE = 300
"""Seconds; no outage lasts as long."""
CACHE_BUDGET = "32MB"
"""Less than all toy models together, so that there is something to evict and to fetch again."""


@dataclass
class World:
    """Everything that a campaign disturbs, and the run that nobody did."""

    root: Path
    generators: tuple[str, ...]
    images_per_generator: int
    hub: HubServer
    native: NativeFaults
    clock: Clock | None
    disks: dict[str, SmallDisk]
    cold_start: float = 0.0
    """Seconds from an inline driver's start to its first commit here, once the reference is made."""
    missing: dict[str, str] = field(default_factory=dict)
    """kind of fault -> why it cannot be had on this machine"""

    @property
    def processes(self) -> Processes:
        """The processes that follow this world's clock and faults."""
        return Processes(self.native.folder)

    @property
    def reference(self) -> Path:
        """The undisturbed run."""
        return self.root / "reference" / "run"

    @property
    def environment(self) -> dict[str, str]:
        """What a disturbed process is started with."""
        return environment() | self.native.environment | (self.clock.environment if self.clock else {})

    @property
    def patience(self) -> list[str]:
        """`--set` of a disturbed driver: what is taken for a hang is measured on this machine, as busy as it is, and an
        outage of the hub is waited out."""
        seconds = max(20, round(self.cold_start))
        return [f"execute.unit_timeout={seconds}", f"hub.download_timeout={seconds}", f"hub.patience={PATIENCE}"]

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line of an installed `commforge` command."""
        return [str(COMMFORGE), *map(str, arguments)]

    def run(self, *arguments: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a `commforge` command in this world to its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )


@contextmanager
def open_world(root: Path, generators: Sequence[str], images_per_generator: int) -> Iterator[World]:
    """Build the toy hub with these generators and open the world; every process in it must have ended by then."""
    build_toy_hub(root / "hub", models=[*generators, CHECKER_REPO])
    build_photos(root / "photos")
    missing = {"disk_full": why_no_disks(), "clock_jump": why_no_clock()}
    with ExitStack() as stack:
        hub = stack.enter_context(HubServer(root / "hub", HubOptions(fault_token="chaos")))
        disks = {}
        if missing["disk_full"] is None:
            for name, size in DISK_MEBIBYTES.items():
                disks[name] = stack.enter_context(SmallDisk(root / name, size))
        yield World(
            root=root,
            generators=tuple(generators),
            images_per_generator=images_per_generator,
            hub=hub,
            native=NativeFaults(root / "chaos"),
            clock=Clock(root / "clock") if missing["clock_jump"] is None else None,
            disks=disks,
            missing={kind: why for kind, why in missing.items() if why is not None},
        )


def prepare(world: World) -> Path:
    """Return a run with catalog, photographs and prompts, and no fake yet."""
    output = world.root / "prepared" / "run"
    toys = ToyWorld(world.root, world.hub.endpoint)
    config = small_config(
        toys,
        output,
        crawl={"models": list(world.generators)},
        sample={"images_per_generator": world.images_per_generator, "unit_images": UNIT_IMAGES},
        execute={"attempts": 4, "spool": str(world.root / "spool" / "spool")},
        hub={"cache": str(world.root / "cache" / "models"), "download_timeout": 300, "disk_budget": CACHE_BUDGET},
    )
    path = write_yaml(world.root / "config.yaml", config)
    for stage in ("crawl", "caption"):
        done = commforge(stage, path)
        assert done.returncode == 0, done.stderr
    return output


def sample_reference(world: World, prepared: Path) -> None:
    """Make the undisturbed run: one inline worker, with a cache and a spool of its own.

    Undisturbed, and yet some draws are NaN: those of models that are so by nature, which they are in both runs.
    """
    world.native.curse(NAN_BY_NATURE, "nan", divisor=NAN_DIVISOR)
    run = copy_run(prepared, world.reference)
    own = [f"hub.cache={world.root / 'reference' / 'cache'}", f"execute.spool={world.root / 'reference' / 'spool'}"]
    began = time.time()
    done = world.run("sample", run / "run.yaml", *(part for setting in own for part in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    commits = (path.stat().st_mtime for path in (run / "dataset" / "commits").glob("*.json"))
    world.cold_start = min(moment for moment in commits if moment > began) - began
