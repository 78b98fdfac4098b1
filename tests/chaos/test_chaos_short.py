"""The short form of `make chaos`: two seeded campaigns, after which nothing shows that anything ever went wrong."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.clock import why_no_clock
from chaos.comparison import compare
from chaos.disks import why_no_disks
from chaos.trial import Trial, hold_trial
from chaos.world import World, open_world, prepare, sample_reference
from ray_cluster import ray_cluster
from toy_runs import copy_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process limits and environments are read from /proc")
SEED = int(os.environ.get("COMMFORGE_CHAOS_SEED", "7"))
GENERATORS = ("crayon-labs/toy-diffusion-v1", "gridworks/toy-ddpm-64")
IMAGES = 24
INLINE = {
    "driver_kill": 1,
    "driver_stop": 1,
    "host_oom": 1,
    "nan": 1,
    "hub_429": 1,
    "hub_cut": 1,
    "hub_corrupt": 1,
    "disk_full": 1,
    "clock_jump": 1,
}
RAY = {
    "worker_kill": 1,
    "supervisor_kill": 1,
    "driver_kill": 1,
    "segfault": 1,
    "device_oom": 1,
    "hub_503": 1,
    "hub_slow": 1,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("chaos"), GENERATORS, IMAGES) as opened:
        yield opened


@pytest.fixture(scope="module")
def prepared(world: World) -> Path:
    """A run with catalog and prompts; the undisturbed run is made too."""
    run = prepare(world)
    sample_reference(world, run)
    return run


def _assert_undone(trial: Trial, faults: int) -> None:
    print(f"COMMFORGE_CHAOS_SEED={SEED} repeats this campaign as far as clocks allow\n{trial.table}")
    print(trial.comparison.summary())
    assert trial.problems == []
    assert trial.struck == faults


@pytest.mark.skipif(why_no_disks() is not None, reason=f"no small disk can be mounted here: {why_no_disks()}")
def test_a_disk_can_be_filled_here() -> None:
    """Skipped, it says that the campaigns below left the full disk out."""


@pytest.mark.skipif(why_no_clock() is not None, reason=f"the clock cannot jump here: {why_no_clock()}")
def test_the_clock_can_jump_here() -> None:
    """Skipped, it says that the campaigns below left the jump of the clock out."""


@pytest.fixture(scope="module")
def inline(world: World, prepared: Path) -> Trial:
    faults = len(INLINE.keys() - world.missing.keys())
    return hold_trial(world, prepared, shares=INLINE, faults=faults, seed=SEED, settings=[])


def test_an_inline_run_disturbed_is_the_undisturbed_one(world: World, inline: Trial) -> None:
    _assert_undone(inline, len(INLINE.keys() - world.missing.keys()))


def test_a_difference_would_be_found(world: World, inline: Trial, tmp_path: Path) -> None:
    assert inline.nan_seeds
    (told,) = compare(world, inline.run, frozenset()).problems
    assert "differs in" in told and "degenerate (nan)" in told
    short = copy_run(inline.run, tmp_path / "run")
    lost = sorted((short / "dataset" / "commits").glob("*.json"))[0]
    lost.unlink()
    (missing,) = compare(world, short, inline.nan_seeds).problems
    assert "units missing" in missing and lost.name.split(".")[0] in missing


def test_a_run_on_ray_disturbed_is_the_undisturbed_one(world: World, prepared: Path) -> None:
    with ray_cluster(world.root / "ray.log", world.environment) as address:
        settings = ["execute.executor=ray", "execute.workers=2", f"execute.ray_address={address}"]
        trial = hold_trial(world, prepared, shares=RAY, faults=len(RAY), seed=SEED, settings=settings)
    _assert_undone(trial, len(RAY))
