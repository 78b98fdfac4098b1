"""Names that become folders and file names, so they must be safe on every file system."""

import re
from typing import Annotated

from pydantic import StringConstraints

SLUG_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN)]
"""A name of letters, digits, `.`, `_`, `-`; at most 128 characters; starts with a letter or digit."""


def generator_name(repo_id: str) -> str:
    """Return the folder-safe name of a hub repo: `owner/model` becomes `owner--model`.

    Hub repo names allow letters, digits, `-`, `_` and `.`, and forbid `--`, so the mapping has no collisions.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", repo_id.replace("/", "--"))
