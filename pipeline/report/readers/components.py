"""How many parts of the catalog's pipelines are copies of another's: text encoders and VAEs, above all."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crawlers.catalog_bytes import CatalogBytes, files_of
from manifests.errors import InputError
from pipeline.report.cost_facts import Component, Components

COMPONENT_ROWS = 24
"""Most parts that the page lists; any repo may name its folders as it likes."""

_COLUMNS = ["generator", "eligible", "packaging", "repo_id", "revision", "subfolder", "base", "files"]


def read_components(catalog: Path) -> Components | None:
    """Count the eligible models' parts; None when the catalog holds no whole pipeline, or does not list files.

    Raises:
        InputError: the file is no catalog.
    """
    try:
        with pq.ParquetFile(catalog) as file:
            if not set(_COLUMNS) <= set(file.schema_arrow.names):
                return None
            content = CatalogBytes()
            for batch in file.iter_batches(columns=_COLUMNS):
                for record in batch.filter(batch["eligible"]).to_pylist():
                    content.add(record["generator"], files_of(record))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{catalog}: not a catalog that can be read: {error}") from error
    if not content.pipelines:
        return None
    parts = content.components()
    return Components(
        parts=tuple(
            Component(part.component, part.models, part.distinct, part.sharing, part.bytes_saved, part.identical_share)
            for part in parts[:COMPONENT_ROWS]
        ),
        left_out=max(0, len(parts) - COMPONENT_ROWS),
        pipelines=content.pipelines,
        sharing=content.pipelines_sharing,
        bytes_naive=content.naive,
        bytes_unique=content.unique,
    )
