"""Run every benchmark, one after the other, and write RESULTS.md from what they measured on this machine.

    python -m benchmarks.run_all [--only NAME ...] [--write]

`make bench` calls it. Benchmarks are the modules of this folder that can be run; each runs in a process of its own, and
one that misses its bar, or fails, does not keep the others from running. `--write` runs nothing and writes RESULTS.md
from the measurements that are there. What people should know of the figures, such as why a bar is missed, is in
NOTES.md and goes to the head of RESULTS.md.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.side_by_side import MEASUREMENTS

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
NOTES = FOLDER / "NOTES.md"
_HEAD = """# Benchmarks

Written by `make bench` from one run of each script in this folder. Ratios are medians of pairs that ran in turns in
one process, with the interval that holds the true median with at least 95%. Another machine gives other figures.
"""


def benchmarks() -> list[str]:
    """Names of the modules that can be run and report a figure."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py") if path != Path(__file__)}
    return sorted(name for name, text in texts.items() if 'if __name__ == "__main__"' in text and "report(" in text)


def run(name: str) -> bool:
    """Run one benchmark with its own words on the terminal; whether it met its bars."""
    print(f"== {name}", flush=True)
    started = perf_counter()
    status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=FOLDER.parent, check=False).returncode
    print(f"== {name}: exit {status} after {perf_counter() - started:.0f} s", flush=True)
    return status == 0


def results(measurements: list[dict[str, Any]]) -> str:
    """RESULTS.md: a table of all figures, and then what each was measured with."""
    lines = [_HEAD, NOTES.read_text(encoding="utf-8"), "| what | value | bar | met |", "| --- | --- | --- | --- |"]
    for kept in measurements:
        bar, met = "none", ""
        if kept["bar"] is not None:
            bar = f"{'≥' if kept['at_least'] else '≤'} {kept['bar']:g}{kept['unit']}"
            met = "yes" if kept["passed"] else "**no**"
        lines.append(f"| {kept['name']} | {kept['value']:.4g}{kept['unit']} | {bar} | {met} |")
    for kept in measurements:
        lines += ["", f"## {kept['name']}", "", f"`{_command(kept['command'])}`  ", kept["machine"], ""]
        lines += [f"* {name.replace('_', ' ')}: {value}" for name, value in kept["facts"].items()]
    return "\n".join(lines) + "\n"


def _command(typed: str) -> str:
    """The command as a reader would type it: a module of this folder, not a path of this machine."""
    python, _, rest = typed.partition(" ")
    script, _, options = rest.partition(" ")
    path = Path(script)
    module = f"-m benchmarks.{path.stem}" if path.suffix == ".py" else script
    return " ".join(part for part in (python, module, options) if part)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", nargs="+", metavar="NAME", choices=benchmarks(), help="run these alone")
    arguments.add_argument("--write", action="store_true", help="run nothing")
    given = arguments.parse_args()
    missed = [] if given.write else [name for name in given.only or benchmarks() if not run(name)]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(MEASUREMENTS.glob("*.json"))]
    RESULTS.write_text(results(found), encoding="utf-8")
    print(f"{RESULTS.relative_to(FOLDER.parent)}: {len(found)} figures" + (f"; missed: {missed}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
