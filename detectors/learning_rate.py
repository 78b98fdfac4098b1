"""Community Forensics' schedule of the learning rate."""

import math


def learning_rate(
    iteration: int, iterations: int, peak: float, warmup_fraction: float = 0.2, final_factor: float = 1e-3
) -> float:
    """Return the rate of optimiser step `iteration` (0 to iterations - 1).

    Linear warm-up over the first `warmup_fraction` of the steps up to `peak`, then a cosine down to
    peak × final_factor at the last step. The paper speaks of decaying the weight decay; the released code decays the
    learning rate.
    """
    warmup = round(warmup_fraction * iterations)
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    steps = max(iterations - 1 - warmup, 1)
    progress = min((iteration - warmup) / steps, 1.0)
    low = peak * final_factor
    return low + (peak - low) * (1 + math.cos(math.pi * progress)) / 2
