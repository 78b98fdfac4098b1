"""What the commands that watch over a dataset say of it, and whether anything was left behind."""

import json
from pathlib import Path

from chaos.world import World

from shards.dataset import Dataset


def housekeeping(world: World, run: Path) -> list[str]:
    """Return what `dataset audit`, `verify` and `gc` find wrong, and which files they leave that no commit names."""
    problems = []
    dataset = run / "dataset"
    audit = world.run("dataset", "audit", dataset, "--json")
    if audit.returncode != 0 or json.loads(audit.stdout)["reconciled"] is not True:
        problems.append(f"audit: counts do not reconcile: {audit.stdout[:2000]}{audit.stderr}")
    verify = world.run("dataset", "verify", dataset)
    if verify.returncode != 0:
        problems.append(f"verify: {verify.stdout}{verify.stderr}")
    gc = world.run("dataset", "gc", dataset, "--now")
    if gc.returncode != 0:
        problems.append(f"gc: {gc.stdout}{gc.stderr}")
    log = Dataset.open(dataset).log
    named = {file.name for unit, generation in log.names() for file in log.read(unit, generation).files}
    there = {
        str(path.relative_to(dataset))
        for folder in ("images", "rows")
        for path in (dataset / folder).rglob("*")
        if path.is_file()
    }
    if named != there:
        problems.append(f"after gc: not committed {sorted(there - named)}, missing {sorted(named - there)}")
    if litter := [str(path) for path in dataset.rglob("*.tmp")]:
        problems.append(f"after gc: temporaries {litter}")
    return problems + cache_damage(world)


def cache_damage(world: World) -> list[str]:
    """Return which downloaded files are not the hub's, and which partial files a finished download has left."""
    problems = []
    for repo in (world.root / "cache" / "models").glob("models--*"):
        repo_id = repo.name.removeprefix("models--").replace("--", "/")
        for path in (repo / "snapshots").rglob("*"):
            name = path.relative_to(repo / "snapshots").parts[1:]
            if (
                path.is_file()
                and path.read_bytes() != (world.root / "hub" / "models" / repo_id / Path(*name)).read_bytes()
            ):
                problems.append(f"cache: {path} is not what the hub has")
        finished = any((repo / "commforge").glob(40 * "?" + "-*.json"))
        if finished and (partial := [str(path) for path in repo.rglob("*.incomplete")]):
            problems.append(f"cache: {repo_id} is complete, and partial files are left: {partial}")
    return problems
