"""The architectures by name. A new one is a file in `architectures/` and one line here."""

from detectors.architecture import Architecture
from detectors.architectures.community_forensics import VIT_SMALL_224, VIT_SMALL_384
from detectors.architectures.tiny_vit import TINY_VIT_64
from manifests.errors import InputError

_ARCHITECTURES: dict[str, Architecture] = {
    architecture.config.name: architecture
    for architecture in (
        VIT_SMALL_384,
        VIT_SMALL_224,
        TINY_VIT_64,
    )
}


def architecture_names() -> list[str]:
    """Return the registered names, in order of registration."""
    return list(_ARCHITECTURES)


def get_architecture(name: str) -> Architecture:
    """Return the architecture called `name`; InputError lists the known names."""
    try:
        return _ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(_ARCHITECTURES)
        raise InputError(f"architecture {name!r} is unknown; known: {known}") from None


def published_architecture(repo_or_input_size: str | int) -> Architecture:
    """Return the architecture whose published weights are in this hub repo or have this input size."""
    for architecture in _ARCHITECTURES.values():
        published = architecture.config.published
        if published is not None and repo_or_input_size in (published.repo_id, architecture.config.input_size):
            return architecture
    known = ", ".join(a.config.published.repo_id for a in _ARCHITECTURES.values() if a.config.published)
    raise InputError(f"no published weights for {repo_or_input_size!r}; known: {known}")
