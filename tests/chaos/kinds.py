"""The kinds of fault: each a function that does it to a running campaign and says what it did."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from crawlers.hub_server.faults import Fault, FaultKind

if TYPE_CHECKING:
    from chaos.campaign import Campaign

DAY = 86_400
STOP_SECONDS = 120.0
"""How long a driver may take to stop when it was told to, or when it can go no further."""
IMPORTED = 350 * 2**20
"""Bytes that a worker holds when it has imported torch. One that hangs before is noticed too, but after ten minutes,
which a slow file system may need."""


class NotNow(Exception):  # noqa: N818
    """The fault's victim is not there, so another fault comes first."""


Injection = Callable[["Campaign", int], tuple[str, bool]]
"""(campaign, fault's number) -> (what was done, whether it has struck at once)."""


@dataclass(frozen=True)
class Kind:
    """How a fault is injected. Faults of the groups `native` and `hub` wait for their victims."""

    inject: Injection
    group: str


def _driver_alive(campaign: Campaign) -> None:
    if not campaign.driver.alive:
        raise NotNow


def worker_kill(campaign: Campaign, number: int) -> tuple[str, bool]:
    """SIGKILL to a worker process, whatever it does."""
    victim = _one_of(campaign, campaign.processes.workers())
    victim.kill()
    return f"process {victim.pid}", True


def worker_stop(campaign: Campaign, number: int) -> tuple[str, bool]:
    """SIGSTOP to a worker process: it hangs, deaf to everything."""
    workers = [worker for worker in campaign.processes.workers() if worker not in campaign.stopped]
    victim = _one_of(campaign, [worker for worker in workers if worker.memory_info().rss > IMPORTED])
    victim.suspend()
    campaign.stopped.append(victim)
    return f"process {victim.pid}", True


def supervisor_kill(campaign: Campaign, number: int) -> tuple[str, bool]:
    """SIGKILL to the Ray actor above a worker."""
    victim = _one_of(campaign, campaign.processes.supervisors())
    orphans = victim.children()
    victim.kill()
    for orphan in campaign.stopped:
        if orphan in orphans:
            orphan.resume()  # stopped, it could not notice that it has lost its parent
    return f"process {victim.pid}", True


def driver_kill(campaign: Campaign, number: int) -> tuple[str, bool]:
    """SIGKILL to the driver."""
    _driver_alive(campaign)
    campaign.driver.allow(-signal.SIGKILL)
    victim = campaign.driver.send(signal.SIGKILL)
    campaign.driver.wait(STOP_SECONDS)
    return f"process {victim}", True


def driver_term(campaign: Campaign, number: int) -> tuple[str, bool]:
    """SIGTERM to the driver: it stops cleanly, or at once when it has hardly begun."""
    _driver_alive(campaign)
    campaign.driver.allow(3, -signal.SIGTERM)
    victim = campaign.driver.send(signal.SIGTERM)
    _must_end(campaign, "after SIGTERM")
    return f"process {victim}", True


def driver_stop(campaign: Campaign, number: int) -> tuple[str, bool]:
    """SIGSTOP to the driver, and SIGCONT some seconds later."""
    _driver_alive(campaign)
    seconds = campaign.moments.uniform(0.5, 5.0)
    victim = campaign.driver.send(signal.SIGSTOP)
    time.sleep(seconds)
    campaign.driver.send(signal.SIGCONT)
    return f"process {victim} for {seconds:.1f} s", True


OUT_OF_MEMORY = frozenset({"host_oom", "device_oom"})


def native(kind: str, most: int = 1) -> Injection:
    """Return what lets the next pipeline call go wrong, `most` times at most for the same draws.

    A unit that runs out of memory on a fresh worker and with batches of one is rightly given up, so two such faults
    never wait or work at the same time.
    """

    def inject(campaign: Campaign, number: int) -> tuple[str, bool]:
        if kind in OUT_OF_MEMORY and campaign.out_of_memory():
            raise NotNow
        times = campaign.moments.randint(1, most)
        campaign.world.native.arm(number, kind, times)
        return f"the next pipeline call, {times} times", False

    return inject


def hub(kind: FaultKind) -> Injection:
    """Return what makes the hub misbehave to one of its next visitors; only an empty cache sends any."""

    def inject(campaign: Campaign, number: int) -> tuple[str, bool]:
        moments = campaign.moments
        fault = Fault(
            kind=kind,
            times=moments.randint(1, 3) if kind in ("rate_limit", "broken", "slow") else 1,
            after=moments.randint(0, 12),
            after_bytes=moments.randint(1, 100_000),
            bytes_per_second=moments.uniform(2e5, 1e6),
            seconds=moments.uniform(15, 45),
        )
        campaign.hub_numbers[number] = campaign.world.hub.arm(fault)
        return fault.model_dump_json(include={"kind", "times", "after", "after_bytes", "seconds"}), False

    return inject


def disk_full(campaign: Campaign, number: int) -> tuple[str, bool]:
    """No byte is left where the dataset, the unpublished shards or the models lie: the driver says so and stops."""
    _driver_alive(campaign)
    name = campaign.moments.choice(sorted(campaign.world.disks))
    disk = campaign.world.disks[name]
    if name == "cache":  # noticed only by a download, so there has to be one
        campaign.driver.allow(-signal.SIGKILL)
        campaign.driver.send(signal.SIGKILL)
        campaign.driver.wait(STOP_SECONDS)
        campaign.no_survivors()
        campaign.wipe_cache()
    disk.fill()
    try:
        if not campaign.driver.alive:
            campaign.driver.start()
        campaign.driver.allow(2)
        _must_end(campaign, f"with a full disk of the {name}")
    finally:
        disk.relieve()
    words = campaign.driver.log.read_text(errors="replace")
    if campaign.driver.endings[-1].code == 2 and "free" not in words:
        campaign.problems.append(
            f"the disk of the {name} was full, and nobody was told to free space:\n{words[-2000:]}"
        )
    return name, True


def clock_jump(campaign: Campaign, number: int) -> tuple[str, bool]:
    """The wall clock of driver and workers jumps by a day or two, either way."""
    clock = campaign.world.clock
    if clock is None:
        raise NotNow
    before = clock.seconds
    clock.set(campaign.moments.choice([shift for shift in (-DAY, 0, DAY) if shift != before]))
    return f"from {before:+} s to {clock.seconds:+} s", True


def _one_of(campaign: Campaign, processes: list[psutil.Process]) -> psutil.Process:
    if not processes:
        raise NotNow
    return campaign.moments.choice(sorted(processes, key=lambda process: process.pid))


def _must_end(campaign: Campaign, when: str) -> None:
    if not campaign.driver.wait(STOP_SECONDS):
        words = campaign.driver.log.read_text(errors="replace")[-2000:]
        campaign.problems.append(f"the driver went on for {STOP_SECONDS:g} s {when}:\n{words}")
        campaign.driver.allow(-signal.SIGKILL)
        campaign.driver.send(signal.SIGKILL)
        campaign.driver.wait(STOP_SECONDS)


KINDS = {
    "worker_kill": Kind(worker_kill, "signal"),
    "worker_stop": Kind(worker_stop, "signal"),
    "supervisor_kill": Kind(supervisor_kill, "signal"),
    "driver_kill": Kind(driver_kill, "signal"),
    "driver_term": Kind(driver_term, "signal"),
    "driver_stop": Kind(driver_stop, "signal"),
    "segfault": Kind(native("segfault"), "native"),
    "abort": Kind(native("abort"), "native"),
    "oom_killed": Kind(native("oom_killed"), "native"),
    "host_oom": Kind(native("host_oom"), "native"),
    "device_oom": Kind(native("device_oom", most=2), "native"),
    "hang": Kind(native("hang"), "native"),
    "nan": Kind(native("nan"), "native"),
    "hub_429": Kind(hub("rate_limit"), "hub"),
    "hub_503": Kind(hub("broken"), "hub"),
    "hub_outage": Kind(hub("outage"), "hub"),
    "hub_cut": Kind(hub("cut"), "hub"),
    "hub_corrupt": Kind(hub("corrupt"), "hub"),
    "hub_slow": Kind(hub("slow"), "hub"),
    "disk_full": Kind(disk_full, "disk"),
    "clock_jump": Kind(clock_jump, "clock"),
}
