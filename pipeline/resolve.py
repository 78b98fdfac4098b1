"""From the config a person wrote to the one that runs: paths made absolute, and what floats pinned once."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ByteSize

from manifests.errors import InputError, system_words
from manifests.strict_yaml import as_model, load_model
from manifests.yaml_text import dump_yaml, parse_yaml
from pipeline.config import RunConfig
from pipeline.hub_token import hub_token
from pipeline.progress import say
from pipeline.run_folder import RunFolder
from shards import storage
from shards.dataset import Dataset

_PINNED = (("caption", "captioner"), ("sample", "checker"))


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a run's config; paths in it become absolute: reals and manifests beside the file, the others in the cwd.

    Raises:
        InputError: names file, line, key, value and what is allowed.
    """
    config: RunConfig = load_model(path, RunConfig, overrides)
    storage.local_root(config.output)  # a URL would be taken for a folder of the working folder
    base = path.resolve().parent
    reals = tuple(
        source.model_copy(update={"path": base / source.path.expanduser()}) for source in config.caption.reals
    )
    return config.model_copy(
        update={
            "output": config.output.expanduser().resolve(),
            "hub": config.hub.model_copy(update={"cache": _absolute(config.hub.cache)}),
            "execute": config.execute.model_copy(update={"spool": _absolute(config.execute.spool)}),
            "caption": config.caption.model_copy(update={"reals": reals}),
            "crawl": config.crawl.model_copy(
                update={"manifests": tuple(base / manifest.expanduser() for manifest in config.crawl.manifests)}
            ),
        }
    )


def _absolute(path: Path | None) -> Path | None:
    return path.expanduser().resolve() if path is not None else None


def config_from_options(output: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Return the config of a command that was given options instead of a file; the dataset is named after its folder.

    Raises:
        InputError: names the option and what is allowed.
    """
    storage.local_root(output)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", output.resolve().name).strip("-.") or "dataset"
    document = parse_yaml(dump_yaml({"name": name, "output": str(output.resolve())}), "options")
    config: RunConfig = as_model(document, RunConfig, overrides)
    return config


def pin(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Write down what the config left to the first run, so that every later run does the same.

    Raises:
        InputError: see `pin_revisions` and `pin_device_memory`.
    """
    return pin_revisions(pin_device_memory(config, folder), folder)


def pin_revisions(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Pin captioner and checker to commit shas: the dataset's own if it exists, else what the hub has now.

    Raises:
        InputError: the hub does not answer, or has no such repo.
    """
    from crawlers.fetching.fetch import pin_revision

    known = _identity(folder)
    for section, key in _PINNED:
        model = getattr(getattr(config, section), key)
        if model is None or model.revision is not None:
            continue
        prefix = f"{section}.{key}"
        if known.get(f"{prefix}.repo_id") == model.repo_id:
            revision = known[f"{prefix}.revision"]
        else:
            revision = pin_revision(model.repo_id, config.hub.endpoint, hub_token())
        pinned = model.model_copy(update={"revision": revision})
        config = config.model_copy(update={section: getattr(config, section).model_copy(update={key: pinned})})
    return config


def pin_device_memory(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Write down the memory that `auto` plans for: the dataset's own if it exists, else that of this machine's device.

    0 stands for a CPU. A config without `auto` needs no such number and keeps null.

    Raises:
        InputError: the workers' GPUs are Ray's to give, and this process cannot tell how large they are.
    """
    sample, execute = config.sample, config.execute
    if "auto" not in (sample.dtype, sample.batch_size) or sample.device_memory is not None:
        return config
    memory: int | None = _identity(folder).get("sample.device_memory") if _has_commits(folder) else None
    if memory is None:
        on_gpu = execute.device != "cpu" and (execute.executor == "inline" or execute.gpus_per_worker > 0)
        if on_gpu and execute.executor == "ray":
            auto = "dtype" if sample.dtype == "auto" else "batch_size"
            raise InputError(
                f"sample.device_memory: null, and sample.{auto} is auto: the GPUs that Ray gives to workers are not "
                "known here; give the memory of one worker, such as 80GB (of a shared GPU: its share)"
            )
        memory = _own_device_memory(execute.device) if on_gpu else 0
        planned = f"{memory / 2**30:g} GiB, this machine's" if memory else "a CPU"
        say(f"sample.device_memory: auto plans for {planned}, from now on; set it to choose otherwise")
    pinned = sample.model_copy(update={"device_memory": ByteSize(memory)})
    return config.model_copy(update={"sample": pinned})


def _own_device_memory(device: str) -> int:
    from samplers.device_memory import device_memory
    from samplers.environment import resolve_device

    return device_memory(resolve_device(device))


def _has_commits(folder: RunFolder) -> bool:
    """Whether anything was made with the dataset's settings: until then they bind nobody."""
    return (folder.dataset / "dataset.json").exists() and bool(Dataset.open(folder.dataset).log.names())


def _identity(folder: RunFolder) -> dict[str, Any]:
    """The identity settings of the run's dataset; empty when there is none yet."""
    return Dataset.open(folder.dataset).identity if (folder.dataset / "dataset.json").exists() else {}


def write_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config as YAML, whole or not at all."""
    text = dump_yaml(config.model_dump(mode="json"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(f"output: cannot write {path}: {system_words(error)}") from error


def read_run(root: Path) -> RunConfig:
    """Read the config of an existing run.

    Raises:
        InputError: the folder is not a run.
    """
    folder = RunFolder.at(root)
    if not folder.config.is_file():
        raise InputError(
            f"{root} is not a run: it has no run.yaml (a run's folder is what `output` names in its config)"
        )
    config: RunConfig = load_model(folder.config, RunConfig, ())
    return config.model_copy(update={"output": root.resolve()})
