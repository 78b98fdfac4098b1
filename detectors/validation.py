"""Score the held-out part of the training images, on all processes, to choose the checkpoint."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.nn import functional

from detectors.loading import batches, consecutive
from detectors.saved_detector import ValidationPoint
from detectors.shard_dataset import ShardImages
from manifests.errors import InputError


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    model: nn.Module,
    images: ShardImages[torch.Tensor],
    batch_size: int,
    workers: int,
    iteration: int,
) -> ValidationPoint:
    """Return AP, AUC and loss over all `images`; every process scores an equal share and all learn the result.

    Raises:
        InputError: a logit is not a number, so the training has diverged.
    """
    processes, rank = accelerator.num_processes, accelerator.process_index
    share = -(-len(images) // processes)
    own = [(rank * share + place) % len(images) for place in range(share)]  # the last share may wrap around
    model.eval()
    parts = [[own[place] for place in part] for part in consecutive(share, batch_size)]
    outputs = [
        model(batch[0].to(accelerator.device)).float() for batch in batches(images, parts, workers, accelerator.device)
    ]
    gathered = accelerator.gather(torch.cat(outputs))
    logits = gathered.cpu()[: len(images)]
    if not torch.isfinite(logits).all():
        raise InputError(f"training diverged: the logits at iteration {iteration} are not finite; lower learning_rate")
    labels = np.asarray(images.labels)
    target = torch.from_numpy(labels.astype(np.float32))
    # in double precision: float32 would round confident logits to equal scores
    scores = logits.double().numpy()
    return ValidationPoint(
        iteration=iteration,
        ap=float(average_precision_score(labels, scores)),
        auc=float(roc_auc_score(labels, scores)),
        loss=float(functional.binary_cross_entropy_with_logits(logits, target)),
    )


def better(point: ValidationPoint, before: Sequence[ValidationPoint]) -> bool:
    """Return whether `point` beats all validations before it: higher AP, or the same AP and a lower loss."""
    return all((point.ap, -point.loss) > (other.ap, -other.loss) for other in before)
