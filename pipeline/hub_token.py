"""The hub's token: from HF_TOKEN or the client's login, never from a config file, never into a log or a row."""


def hub_token() -> str | None:
    """Return the token of this machine's user, or None."""
    from huggingface_hub import get_token

    return get_token()
