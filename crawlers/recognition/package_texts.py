"""What the texts of a repo without a pipeline say: its card, and the words that its adapter was trained on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import ClientClosedError, HubError, HubUnreachableError
from crawlers.recognition.packaging import Package
from crawlers.recognition.trigger_words import card_trigger_words, counted_trigger_word, placeholder_token
from manifests.generator import WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_README_LIMIT = 64 * 2**10
"""Bytes of a card's text that are read; what is asked of it stands near its top."""


def read_readme(client: HubClient, info: "ModelInfo", files: list[WeightFile]) -> str:
    """Return the beginning of the card's text, empty where there is none."""
    return _read_text(client, info, files, "README.md") or ""


def trigger_words(
    client: HubClient,
    info: "ModelInfo",
    files: list[WeightFile],
    package: Package,
    card: Mapping[str, Any],
    readme: str,
) -> tuple[tuple[str, ...], str] | None:
    """Return the words that a prompt needs for the adapter, and who says so; None where nobody does."""
    if package.packaging == "textual-inversion":
        identifier = _read_text(client, info, files, "token_identifier.txt")
        token, source = placeholder_token(package.contents.token, identifier, package.weight_name or "")
        return (token,), source
    if package.packaging != "lora":
        return None
    if words := card_trigger_words(card, readme):
        return words, "card"
    if words := counted_trigger_word(package.header.metadata):
        return words, "metadata"
    return None


def _read_text(client: HubClient, info: "ModelInfo", files: list[WeightFile], path: str) -> str | None:
    """Return the beginning of a text file; None where there is none or the hub does not give it.

    Raises:
        HubUnreachableError, ClientClosedError: nobody answers, or waits for it, any more.
    """
    file = next((file for file in files if file.path == path), None)
    if file is None or file.size == 0:
        return None
    try:
        body = client.read_range(info.id, info.sha or "main", path, 0, min(file.size, _README_LIMIT))
    except (HubUnreachableError, ClientClosedError):
        raise
    except HubError:
        return None
    return body.decode("utf-8", errors="replace")
