"""``.hub.yaml``: what the hub knows about a repo beside its files, and how it misbehaves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from manifests.errors import InputError
from manifests.frozen import FrozenModel

SETTINGS_FILE = ".hub.yaml"


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_in_utc)]
Token = Annotated[str, Field(pattern=r"^\S+$")]
# Lax numbers and flags would read `true` as one download and "off" as not private.
Count = Annotated[int, Field(ge=0, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class RateLimit(FrozenModel):
    """The first ``requests`` requests about the repo answer 429 and ask to wait ``retry_after`` seconds."""

    requests: Annotated[int, Field(ge=1, strict=True)]
    retry_after: Count = 1


class Behaviour(FrozenModel):
    """How a repo misbehaves. Counters start afresh with the server."""

    missing: Flag = False
    gated_token: Token | None = None
    rate_limit: RateLimit | None = None
    broken_first: Count = 0
    cut_after_bytes: Count | None = None
    corrupt: tuple[str, ...] = ()
    bytes_per_second: float | None = Field(default=None, gt=0)
    delay_seconds: float = Field(default=0.0, ge=0)


class RepoSettings(FrozenModel):
    """The keys of one ``.hub.yaml``; see the package docstring for what each means."""

    downloads: Count = 0
    likes: Count = 0
    author: str | None = None
    created_at: UtcTime = datetime(2024, 1, 1, tzinfo=UTC)
    last_modified: UtcTime | None = None
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library_name: str | None = None
    gated: Literal[False, "auto", "manual"] = False
    private: Flag = False
    card_data: dict[str, Any] | None = None
    gated_token: Token | None = None
    behaviour: Behaviour = Behaviour()

    @model_validator(mode="after")
    def _one_token(self) -> "RepoSettings":
        if self.gated_token is not None and self.behaviour.gated_token not in (None, self.gated_token):
            raise ValueError("gated_token and behaviour.gated_token differ; give it once")
        return self

    @property
    def token(self) -> str | None:
        """The bearer token that opens the repo, or None if no token does."""
        return self.gated_token or self.behaviour.gated_token


def read_settings(repo: Path) -> RepoSettings:
    """Read ``repo/.hub.yaml``; the defaults if there is none.

    Raises:
        InputError: the file is unreadable, not YAML, or has an unknown key or a bad value.
    """
    path = repo / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return RepoSettings()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # an impossible date is a bare ValueError
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if data is None:
        return RepoSettings()
    if not isinstance(data, dict):
        raise InputError(f"{path}: must be a mapping of keys, not {type(data).__name__}")
    try:
        return RepoSettings.model_validate(data)
    except ValidationError as error:
        raise InputError("\n".join(_explain(path, problem) for problem in error.errors())) from error


def _explain(path: Path, problem: Any) -> str:
    """One line for one pydantic error: file, key, value, what is allowed."""
    key = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        model: type[FrozenModel] = RepoSettings
        if problem["loc"][0] == "behaviour":
            model = RateLimit if "rate_limit" in problem["loc"][:-1] else Behaviour
        return f"{path}: unknown key {key!r}; allowed: {', '.join(model.model_fields)}"
    if problem["type"] == "value_error":
        return f"{path}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{path}: {key} = {problem['input']!r}: {problem['msg']}"
