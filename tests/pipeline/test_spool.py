"""A new worker tidies up after dead ones of its host, and after nobody else."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from pipeline.spool import own_spool


def test_litter_of_dead_processes_goes_and_that_of_living_ones_and_other_hosts_stays(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    names = {
        f"{host}-{dead.pid}": False,
        f"{host}-{dead.pid}.worker-0-1.log": False,
        f"{host}-{os.getppid()}": True,
        f"elsewhere-{dead.pid}": True,
        "notes.txt": True,
    }
    for name in names:
        path = tmp_path / name
        path.mkdir() if "." not in name.removeprefix(host) else path.write_text("x")
    own = own_spool(tmp_path)
    assert own.is_dir()
    assert {name: (tmp_path / name).exists() for name in names} == names
