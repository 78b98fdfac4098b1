"""The seed of a draw, known before anything is sampled and the same on every machine."""

import hashlib
import json

_SEED_BITS = 63  # what a signed 64-bit column and torch.Generator.manual_seed both hold


def seed_for(generator: str, revision: str | None, prompt_id: str, index: int) -> int:
    """Return the noise seed of draw `index` of `generator`: 0 <= seed < 2**63.

    The four values are hashed as one canonical JSON list, so no boundary between them can be moved to make two
    draws collide. Changing any of them gives an unrelated seed.
    """
    canonical = json.dumps([generator, revision, prompt_id, index], separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.blake2b(canonical.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _SEED_BITS)
