"""The seed of a draw, known before anything is sampled and the same on every machine."""

import hashlib
from json.encoder import encode_basestring

_SEED_BITS = 63  # what a signed 64-bit column and torch.Generator.manual_seed both hold


class Seeds:
    """The seeds of one generator's draws.

    (generator, revision, prompt id, index) are hashed as one canonical JSON list, so no boundary between them can be
    moved to make two draws collide. Changing any of them gives an unrelated seed. What the draws of a generator have in
    common is hashed once.
    """

    def __init__(self, generator: str, revision: str | None) -> None:
        common = ",".join("null" if text is None else encode_basestring(text) for text in (generator, revision))
        self._common = hashlib.blake2b(f"[{common},".encode(), digest_size=8)

    def of(self, prompt_id: str, index: int) -> int:
        """Return the noise seed of draw `index`: 0 <= seed < 2**63."""
        return self.of_quoted(quoted(prompt_id), index)

    def of_quoted(self, prompt_id: str, index: int) -> int:
        """Return the same for a prompt id that went through `quoted`."""
        own = self._common.copy()
        own.update(f"{prompt_id},{index}]".encode())
        return int.from_bytes(own.digest()) >> (64 - _SEED_BITS)


def quoted(prompt_id: str) -> str:
    """Return a prompt id as a JSON string, to be used for many draws."""
    return encode_basestring(prompt_id)


def seed_for(generator: str, revision: str | None, prompt_id: str, index: int) -> int:
    """Return the noise seed of draw `index` of `generator`: 0 <= seed < 2**63; see `Seeds`."""
    return Seeds(generator, revision).of(prompt_id, index)
