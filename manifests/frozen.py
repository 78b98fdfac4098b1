"""The base of every spec: frozen, strict about unknown keys, cheap to pickle."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A validated value. Unknown keys are refused and fields cannot be reassigned."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="strings")
