"""A whole trial: world, reference, campaign, repair, comparison."""

import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaos.campaign import Campaign, Stalled
from chaos.comparison import Comparison, compare, failures
from chaos.housekeeping import housekeeping
from chaos.schedule import schedule
from chaos.world import NAN_BY_NATURE, World
from toy_runs import copy_run

from shards.dataset import Dataset

CURSED = {"segfault": "worker_signal", "oom_killed": "quarantined", "host_oom": "host_oom", "hang": "unit_timeout"}
"""What happens at every try of a cursed unit, and the reason that its rows must carry then."""
FIRST_CURSE = 10_000


@dataclass
class Trial:
    """What one campaign came to.

    Attributes:
        run: the disturbed run, repaired.
        nan_seeds: draws that were NaN in it alone.
        struck: how many faults met their victims.
        problems: what should not have happened.
    """

    run: Path
    nan_seeds: frozenset[int]
    table: str
    seconds: float
    lives: int
    comparison: Comparison
    struck: int
    problems: list[str] = field(default_factory=list)


def hold_trial(
    world: World,
    prepared: Path,
    *,
    shares: Mapping[str, int],
    faults: int,
    seed: int,
    settings: Sequence[str],
    curses: Sequence[str] = (),
) -> Trial:
    """Disturb a copy of the prepared run with `faults` faults, repair what was given up, and compare.

    Args:
        settings: `--set` of the driver.
        curses: what shall happen to one unit each, at every try; see `CURSED`.
    """
    settings = [*world.patience, *settings]
    moments = random.Random(seed)
    run = copy_run(prepared, world.root / "run" / f"run-{seed}-{faults}")
    kinds = schedule(shares, faults, world.missing, moments)
    victims = _victims(world.reference, curses, moments)
    for number, (kind, unit) in enumerate(zip(curses, victims, strict=True), FIRST_CURSE):
        world.native.curse(number, kind, victims[unit])
    first_strike = len(world.native.strikes())
    campaign = Campaign(world, run, kinds, moments, settings)
    problems = campaign.problems
    with ExitStack() as stack:
        stack.callback(campaign.end)
        try:
            campaign.carry_out()
        except Stalled as stalled:
            problems.append(str(stalled))
        campaign.end()
        campaign.no_survivors()
        world.hub.disarm()
        world.native.disarm()
        for number in range(FIRST_CURSE, FIRST_CURSE + len(curses)):
            world.native.lift(number)
        expected = {unit: CURSED[kind] for kind, unit in zip(curses, victims, strict=True)}
        problems += _judge_failures(run, expected)
        problems += _repair(world, run, settings)
        once = [strike for strike in world.native.strikes()[first_strike:] if strike.number != NAN_BY_NATURE]
        nan_seeds = frozenset(seed for strike in once if strike.kind == "nan" for seed in strike.seeds)
        comparison = compare(world, run, nan_seeds)
        problems += [*comparison.problems, *housekeeping(world, run)]
    shutil.copytree(run, world.root / "disturbed" / run.name)  # the small disk goes with the world
    unstruck = [f"{entry.number} {entry.kind}" for entry in campaign.ledger.pending()]
    if unstruck:
        problems.append(f"faults that met nobody: {', '.join(unstruck)}")
    return Trial(
        run=run,
        nan_seeds=nan_seeds,
        table=campaign.ledger.table(),
        seconds=campaign.ledger.seconds,
        lives=campaign.driver.lives,
        comparison=comparison,
        struck=sum(entry.struck for entry in campaign.ledger.entries),
        problems=problems,
    )


def _victims(reference: Path, curses: Sequence[str], moments: random.Random) -> dict[str, list[int]]:
    """Return as many units as there are curses, each of another generator while there are enough: unit -> one seed."""
    rows = Dataset.open(reference / "dataset").rows(columns=["generator", "unit", "index", "seed"], label=1).to_pylist()
    by_generator: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row["index"] >= 0:
            by_generator.setdefault(row["generator"], {}).setdefault(row["unit"], [row["seed"]])
    generators = sorted(by_generator)
    moments.shuffle(generators)
    victims: dict[str, list[int]] = {}
    for number in range(len(curses)):
        units = by_generator[generators[number % len(generators)]]
        unit = moments.choice(sorted(units.keys() - victims.keys()))
        victims[unit] = units[unit]
    return victims


def _judge_failures(run: Path, expected: Mapping[str, str]) -> list[str]:
    """Return which units failed without a reason, or for another reason than the true one."""
    failed = failures(run)
    problems = []
    for unit, reason in expected.items():
        if set(failed.get(unit, {})) != {reason}:
            problems.append(
                f"unit {unit} was cursed, so its rows must say {reason}, and say {dict(failed.get(unit, {}))}"
            )
    for unit, reasons in failed.items():
        if unit not in expected:
            problems.append(f"unit {unit} was given up though every fault could pass: {dict(reasons)}")
    return problems


def _repair(world: World, run: Path, settings: Sequence[str]) -> list[str]:
    """Try again what was given up, now that nothing disturbs; return what went wrong."""
    if not failures(run):
        return []
    retry = ("--retry", "crashed", "--retry", "oom", "--retry", "timeout", "--retry", "load_failed")
    chosen = [part for setting in settings for part in ("--set", setting)]
    done = world.run("sample", run / "run.yaml", *retry, *chosen)
    left = failures(run)
    if done.returncode != 0 or left:
        return [f"the repair ended with exit code {done.returncode} and left {left}:\n{done.stdout}{done.stderr}"]
    return []
