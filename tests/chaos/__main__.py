"""The long form: one campaign of 200 faults on Ray workers, from the command line. See docs/chaos.md."""

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

from chaos.schedule import INLINE, RAY
from chaos.trial import CURSED, hold_trial
from chaos.world import open_world, prepare, sample_reference
from ray_cluster import ray_cluster

from pipeline.demo.toy_generators import TOY_GENERATORS


def main() -> int:
    """Hold the trial, print what was done and what came of it; exit code 1 when something should not have happened."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--chaos-seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--images", type=int, default=84, help="from each of the eight toy generators")
    parser.add_argument("--executor", choices=("ray", "inline"), default="ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--set", action="append", default=[], help="of the driver, such as execute.spares=1; repeatable"
    )
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one that is removed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that disks, cluster and hub are cleared away
    print(f"--chaos-seed {options.chaos_seed} repeats this campaign as far as clocks allow", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        root = (options.folder or Path(temporary)).absolute()
        with open_world(root, list(TOY_GENERATORS), options.images) as world:
            for kind, why in world.missing.items():
                print(f"left out: {kind}: {why}", flush=True)
            prepared = prepare(world)
            sample_reference(world, prepared)
            print(f"the undisturbed run is done; its first commit came after {world.cold_start:.0f} s", flush=True)
            chosen = {"faults": options.faults, "seed": options.chaos_seed}
            if options.executor == "inline":
                trial = hold_trial(world, prepared, shares=INLINE, settings=options.set, **chosen)
            else:
                with ray_cluster(root / "ray.log", world.environment, options.workers + 1) as address:
                    settings = ["execute.executor=ray", f"execute.workers={options.workers}"]
                    settings += [f"execute.ray_address={address}", *options.set]
                    trial = hold_trial(world, prepared, shares=RAY, settings=settings, curses=tuple(CURSED), **chosen)
    print(trial.table)
    print(f"{trial.lives} drivers in {trial.seconds / 60:.1f} min; {trial.comparison.summary()}")
    for problem in trial.problems:
        print(f"PROBLEM: {problem}")
    return 1 if trial.problems else 0


if __name__ == "__main__":
    sys.exit(main())
