"""The shard of a unit that was given up: a row for every target draw, with the reason, and no image.

The driver writes it, because the worker may be dead. Rows of a given-up unit name no environment: what failed
depends on none.
"""

from pathlib import Path

from manifests.unit import UnitSpec
from pipeline.rows import generated_row
from pipeline.spool import own_spool
from shards.statuses import Reason
from shards.writer import Receipt, UnitWriter


def publish_failed_unit(dataset: Path, spool: Path, unit: UnitSpec, generation: int, reason: Reason) -> Receipt:
    """Publish the rows of a given-up unit and return the receipt."""
    with UnitWriter(dataset, own_spool(spool), unit.unit, unit.generator.name) as writer:
        for number, draw in enumerate(unit.draws):
            batch, slot = divmod(number, unit.batch_size)
            writer.add(generated_row(unit, generation, draw, batch=batch, slot=slot, reason=reason), None)
        return writer.publish()
