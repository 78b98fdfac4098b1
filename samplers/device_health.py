"""Whether a device still answers.

After a failed assertion or an illegal access on a GPU it never does again for the process that caused it, and every
further model would fail there for nothing of its own.
"""


def device_answers(device: str) -> bool:
    """Compute a sum on the device and wait for it; False if it reports an error or a wrong result."""
    import torch

    try:
        return int(torch.ones(8, device=device).sum().item()) == 8
    except torch.OutOfMemoryError:
        return True  # full, which is another matter
    except RuntimeError:  # torch.AcceleratorError is one
        return False
