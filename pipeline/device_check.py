"""Is the device that was asked for there? Asked before the first model loads, or each would fail for it by itself.

`auto` asks for one too where a worker has GPUs of its own: on a machine whose GPU is gone it would mean the CPU, where
a unit that was planned for a GPU takes until its time limit, or gives images that no other worker can give again.
"""

from typing import TYPE_CHECKING

from manifests.errors import InputError

if TYPE_CHECKING:  # it loads torch, which a driver whose workers are elsewhere can do without
    from detectors.devices import DeviceName


def check_device(key: str, device: "DeviceName", *, gpus: float = 0.0) -> None:
    """Check that this machine has `device`, which the config key or option `key` names.

    Args:
        gpus: of this machine that are for this process, as `execute.gpus_per_worker` has it; 0: `auto` may be the CPU.

    Raises:
        InputError: it has not; the message says what it has.
    """
    if device == "cpu" or (device == "auto" and gpus == 0):
        return
    from detectors.devices import resolve_device

    try:
        found = resolve_device(device)
    except InputError as error:
        raise InputError(f"{key} = {device}: {error}") from error
    if found.type == "cpu":
        raise InputError(
            f"{key} = {device}, execute.gpus_per_worker = {gpus:g}: a worker is to have a GPU, and this process finds "
            f"none; mend the machine, or set execute.gpus_per_worker = 0 or {key} = cpu to compute on the CPU"
        )
