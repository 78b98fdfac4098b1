"""Loaded by every Python process of a chaos campaign at its start: makes the next pipeline call go wrong on demand.

What goes wrong is real: a bad address is read, memory is asked for that the process may not have, a call never comes
back. Only what no machine without a GPU can have is raised by hand: the exception of a full device.

The folder that COMMFORGE_CHAOS names holds what is asked for. `armed/*.json` are faults for whichever pipeline is
called next; a process takes one by renaming it, so each strikes once. `curses/*.json` name draws, by their seeds or by
what divides those: a call for one of them goes wrong every time, `times` times in all where that is given. Every
strike is first written to `strikes.jsonl`.
"""

import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from pathlib import Path

_FOLDER = Path(os.environ.get("COMMFORGE_CHAOS", "."))
_MODULE = "diffusers.pipelines.pipeline_utils"
_FOREVER = 10**6
_OVER_THE_LIMIT = 1 << 32


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that defines the class of all pipelines, and changes the class once it is there."""

    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        _watch_calls(module.DiffusionPipeline)


def _watch_calls(base):
    """Wrap `__call__` of every pipeline class that is defined from now on."""

    def __init_subclass__(cls, **options):  # noqa: N807
        super(base, cls).__init_subclass__(**options)
        if "__call__" in vars(cls):
            cls.__call__ = _wrapped(vars(cls)["__call__"])

    base.__init_subclass__ = classmethod(__init_subclass__)


def _wrapped(call):
    @functools.wraps(call)
    def watched(self, *arguments, **options):
        seeds = [generator.initial_seed() for generator in options.get("generator") or []]
        poisoned = set()
        for strike in (*_curses(set(seeds)), *_armed(seeds)):
            if strike["kind"] == "nan":
                poisoned |= set(strike["seeds"])
            else:
                _STRIKES[strike["kind"]]()
        output = call(self, *arguments, **options)
        for place, seed in enumerate(seeds):
            if seed in poisoned:
                output.images[place] = float("nan")
        return output

    return watched


def _curses(seeds):
    """Yield the curses on one of the seeds."""
    for path in sorted((_FOLDER / "curses").glob("*.json")):
        try:
            curse = json.loads(path.read_text())
        except FileNotFoundError:  # lifted just now
            continue
        divisor = curse.get("divisor")
        struck = {seed for seed in seeds if seed in curse["seeds"] or (divisor and seed % divisor == 0)}
        if not struck:
            continue
        if curse.get("times") == 1:
            path.unlink()
        elif curse.get("times") is not None:
            _write(path, curse | {"times": curse["times"] - 1})
        _note(curse, struck)
        yield curse | {"seeds": sorted(struck)}


def _armed(seeds):
    """Yield the armed fault that this call takes, if there is one; what is to strike again becomes a curse."""
    for path in sorted((_FOLDER / "armed").glob("*.json")):
        try:
            fault = json.loads(path.rename(_FOLDER / "taken" / path.name).read_text())
        except FileNotFoundError:  # another process was faster
            continue
        if fault["times"] > 1:
            _write(_FOLDER / "curses" / path.name, fault | {"seeds": seeds, "times": fault["times"] - 1})
        _note(fault, seeds)
        yield fault | {"seeds": seeds}
        return


def _write(path, content):
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.rename(path)


def _note(fault, seeds):
    """Write down a strike before it happens; the line is with the kernel and outlives this process."""
    strike = {"number": fault["number"], "kind": fault["kind"], "seeds": sorted(seeds), "pid": os.getpid()}
    line = json.dumps(strike | {"steady": time.monotonic()}) + "\n"
    descriptor = os.open(_FOLDER / "strikes.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _segfault():
    import ctypes

    ctypes.string_at(0)


def _abort():
    os.abort()


def _killed():
    """As the kernel ends the process that takes the last memory."""
    os.kill(os.getpid(), 9)


def _hang():
    time.sleep(_FOREVER)


def _host_oom():
    """Lower the limit of the address space to little more than what is used, and ask for far more."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
    try:
        bytearray(_OVER_THE_LIMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _device_oom():
    import torch

    raise torch.OutOfMemoryError("the device is full, says the chaos campaign")


_STRIKES = {
    "segfault": _segfault,
    "abort": _abort,
    "oom_killed": _killed,
    "hang": _hang,
    "host_oom": _host_oom,
    "device_oom": _device_oom,
}

if "COMMFORGE_CHAOS" in os.environ:
    sys.meta_path.insert(0, _Finder())
