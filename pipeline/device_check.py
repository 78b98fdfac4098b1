"""Is the device that was asked for there? Asked before the first model loads, or each would fail for it by itself."""

from typing import TYPE_CHECKING

from manifests.errors import InputError

if TYPE_CHECKING:  # it loads torch, which a driver whose workers are elsewhere can do without
    from detectors.devices import DeviceName


def check_device(key: str, device: "DeviceName") -> None:
    """Check that this machine has `device`, which the config key or option `key` names.

    Raises:
        InputError: it has not; the message says what it has.
    """
    if device in ("auto", "cpu"):
        return
    from detectors.devices import resolve_device

    try:
        resolve_device(device)
    except InputError as error:
        raise InputError(f"{key} = {device}: {error}") from error
