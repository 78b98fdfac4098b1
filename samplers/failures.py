"""From an exception of a stranger's model to a typed failure: by its type, never by words in its message.

Two boundaries, loading and calling. Each catches the exceptions that diffusers, transformers and torch raise for a bad
model, and nothing else: a mistake of ours outside the boundaries stays an exception.
"""

import binascii
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from google.protobuf.message import Error as ProtobufError
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from jinja2 import TemplateError
from safetensors import SafetensorError

from shards.statuses import Reason, UnitFailure

_MODEL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    EntryNotFoundError,
    HFValidationError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    StopIteration,
    TemplateError,
    TypeError,
    ValueError,
    binascii.Error,
    pickle.PickleError,
    struct.error,
    zipfile.BadZipFile,
    ProtobufError,
)

_LOAD_REASONS: tuple[tuple[tuple[type[BaseException], ...], Reason], ...] = (
    ((torch.OutOfMemoryError,), Reason.device_oom),
    ((MemoryError,), Reason.host_oom),
    ((json.JSONDecodeError, UnicodeDecodeError), Reason.bad_config),
    ((FileNotFoundError, EntryNotFoundError), Reason.missing_file),
    ((ImportError,), Reason.pipeline_class),
)
"""The first line that fits decides; what fits none is an invalid pipeline."""


@contextmanager
def load_failures(what: str) -> Iterator[None]:
    """Turn what a broken or unsupported model raises while it is read into UnitFailure; `what` names the part."""
    try:
        yield
    except _MODEL_ERRORS as error:
        raise UnitFailure(_load_reason(error), f"{what}: {describe(error)}") from error


@contextmanager
def sampling_failures(what: str) -> Iterator[None]:
    """Turn what a model raises while it is called into UnitFailure."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnitFailure(Reason.device_oom, f"{what}: {describe(error)}") from error
    except MemoryError as error:
        raise UnitFailure(Reason.host_oom, f"{what}: {describe(error)}") from error
    except _MODEL_ERRORS as error:
        raise UnitFailure(Reason.sampling_error, f"{what}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """The exception's type and message."""
    return f"{type(error).__name__}: {error}"


def _load_reason(error: BaseException) -> Reason:
    if isinstance(_unwrapped(error), SafetensorError):
        return Reason.corrupt_weights
    for types, reason in _LOAD_REASONS:
        if isinstance(error, types):
            return reason
    if isinstance(error, OSError) and error.errno is not None:
        return Reason.sampling_error  # The machine's own fault, such as a failing disk: another worker may do better.
    return Reason.invalid_pipeline


def _unwrapped(error: BaseException) -> BaseException:
    """The first exception of the chain: diffusers reports a SafetensorError as an OSError about the file."""
    seen = {id(error)}
    while (inner := error.__cause__ or error.__context__) is not None and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return error
