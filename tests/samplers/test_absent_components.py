"""A pipeline that lacks a network its class cannot do without, such as HiDream without its Llama."""

import json
from pathlib import Path

import pytest

from samplers.model_folder import read_model_folder
from samplers.pipeline_assembly import assemble
from shards.statuses import Reason, Retry, UnitFailure


@pytest.mark.parametrize("index", [{}, {"text_encoder_4": [None, None], "tokenizer_4": [None, None]}])
def test_a_fourth_text_encoder_that_is_in_another_repo(index: dict[str, list[None]], tmp_path: Path) -> None:
    scheduler = "FlowMatchEulerDiscreteScheduler"
    named = {"_class_name": "HiDreamImagePipeline", "scheduler": ["diffusers", scheduler], **index}
    (tmp_path / "model_index.json").write_text(json.dumps(named))
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": scheduler}))
    with pytest.raises(UnitFailure, match="text_encoder_4") as failure:
        assemble(read_model_folder(tmp_path, None), {}, "float32")
    assert failure.value.reason is Reason.invalid_pipeline
    assert failure.value.reason.retry is Retry.never
