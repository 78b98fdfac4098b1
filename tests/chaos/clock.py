"""The wall clock of a campaign's processes, which can jump. See clock_shift.c for how."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock_shift.c")


class Clock:
    """Builds the library in `folder`; `environment` is what a process needs to follow this clock."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "clock_shift.so"
        compiler = shutil.which("cc")
        if compiler is None:
            raise FileNotFoundError("no C compiler (cc) on this machine")
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", library, _SOURCE, "-ldl"], check=True)
        self._file = folder / "clock_shift"
        self._file.write_bytes(bytes(8))
        self.seconds = 0
        self.environment = {"LD_PRELOAD": str(library), "COMMFORGE_CLOCK_FILE": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let the clock show `seconds` more than the machine's, at once and everywhere."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))
        self.seconds = seconds


def why_no_clock() -> str | None:
    """Return why the clock cannot be made to jump here, None when it can."""
    if sys.platform != "linux":
        return "only Linux has LD_PRELOAD"
    return None if shutil.which("cc") else "no C compiler (cc) on this machine"
