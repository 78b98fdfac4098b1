"""The configuration that docs/sampling.md offers to a lab is one that commforge takes."""

from pathlib import Path

from pipeline.resolve import load_config

LAB_RUN = Path(__file__).parents[2] / "docs" / "lab-run.yaml"


def test_the_lab_configuration_is_valid_and_says_what_the_text_says() -> None:
    config = load_config(LAB_RUN)
    assert config.crawl.count == 60_000
    assert config.hub.disk_budget == 2 * 10**12
    assert config.sample.device_memory == 80 * 2**30
    assert (config.sample.dtype, config.sample.batch_size, config.sample.compile) == ("auto", "auto", True)
    assert (config.execute.workers, config.execute.gpus_per_worker, config.execute.spares) == (64, 1, 1)
