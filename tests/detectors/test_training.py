"""Training learns, is exact about resuming, and refuses what it cannot do right."""

import json
import os
import signal
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from training_process import start_training

from detectors.evaluation import evaluate
from detectors.saved_detector import load_detector, read_record
from detectors.train_config import TrainConfig
from detectors.training import train
from manifests.errors import InputError
from shards.run_lock import RunLock, RunLockHeld

SHORT = {
    "architecture": "tiny-vit-64",
    "iterations": 7,
    "batch_size": 8,
    "gradient_accumulation": 2,
    "learning_rate": 1e-3,
    "balance": "generator",
    "validation_fraction": 0.1,
    "validate_every": 3,
    "checkpoint_every": 2,
    "device": "cpu",
}


def config(**changes):
    return TrainConfig(**(SHORT | changes))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def undisturbed(separable, tmp_path_factory):
    """The folder of a short run with the published augmentation, nobody interfering."""
    out = tmp_path_factory.mktemp("undisturbed") / "detector"
    train(separable, out, config())
    return out


class Interruption(Exception):  # noqa: N818
    pass


def stop_at(iteration):
    def progress(event):
        if event.iteration == iteration:
            raise Interruption

    return progress


def test_a_tiny_detector_learns_and_generalises_to_an_unseen_generator(trained, separable, tmp_path):
    record = read_record(trained)
    assert record.validation.auc > 0.95
    assert evaluate(trained, separable, "test", out=tmp_path, device="cpu").macro.auc > 0.95


def test_a_finished_folder_holds_no_leftovers(undisturbed):
    assert files(undisturbed) == [".run.lock", "detector.json", "model.safetensors", "training_rows.parquet"]


def test_the_folder_says_all_that_the_weights_depend_on(trained):
    content = json.loads((trained / "detector.json").read_text())
    assert content["architecture"]["name"] == "tiny-vit-64"
    assert content["architecture"]["preprocessing"]["resize_short_side"] == 73
    assert content["architecture"]["augmentation"] == "none"
    assert content["training"]["iterations"] == 40
    assert content["data"]["dataset"] == "toy"
    assert content["data"]["dataset_identity"] == {"note": "tests"}
    assert content["data"]["generators"] == ["gen-a", "gen-b"]
    images = content["data"]["training_images"], content["data"]["validation_images"]
    assert {label: images[0][label] + images[1][label] for label in ("real", "fake")} == {"real": 48, "fake": 48}
    assert content["versions"].keys() >= {"torch", "timm", "pillow"}
    assert [point["iteration"] for point in content["validations"]] == [20, 40]
    detector = load_detector(trained, "cpu")
    assert detector.weights_sha256 == content["weights_sha256"]
    assert not detector.model.training


def test_training_and_validation_share_no_photograph_and_only_training_rows_are_used(trained):
    rows = pq.read_table(trained / "training_rows.parquet").to_pylist()
    sides = {part: {row["photograph"] for row in rows if row["part"] == part} for part in ("training", "validation")}
    assert sides["training"]
    assert sides["validation"]
    assert not sides["training"] & sides["validation"]
    assert len(rows) == 96
    assert {row["generator"] for row in rows} == {"photos", "gen-a", "gen-b"}


@pytest.mark.parametrize("iteration", [3, 6])
def test_interrupted_and_resumed_equals_undisturbed(separable, undisturbed, tmp_path, iteration):
    out = tmp_path / "detector"
    seen = []
    with pytest.raises(Interruption):
        train(separable, out, config(log_every=1), progress=stop_at(iteration))
    assert files(out) == [".run.lock", "training/state.pt"]
    train(separable, out, config(log_every=1), progress=lambda event: seen.append(event.iteration))
    # the last checkpoint before iteration 3 is at 2; the one of iteration 6 was written before the interruption
    assert seen == list(range(iteration + 1 if iteration == 6 else 3, 8))
    assert (out / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    mine, theirs = read_record(out), read_record(undisturbed)
    assert mine.validations == theirs.validations
    assert mine.validation == theirs.validation
    assert files(out) == files(undisturbed)


def test_loader_processes_do_not_change_the_weights(separable, undisturbed, tmp_path):
    train(separable, tmp_path / "detector", config(workers=2))
    assert (tmp_path / "detector/model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_global_random_state_and_threads_are_left_alone(separable, tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(separable, tmp_path / "detector", config(iterations=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_killed_process_frees_the_folder_and_the_next_one_ends_with_the_same_weights(
    separable, undisturbed, tmp_path
):
    process = start_training(separable, tmp_path / "detector", config(log_every=1), 5)
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "detector/training/state.pt").is_file()
    train(separable, tmp_path / "detector", config())
    assert (tmp_path / "detector/model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_two_processes_train_the_same_detector_as_one(separable, undisturbed, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    settings = config(gradient_accumulation=1)
    processes = [
        start_training(
            separable,
            tmp_path / "detector",
            settings,
            variables={**world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    for process in processes:
        process.join(timeout=180)
        assert process.exitcode == 0
    mine, theirs = (load_file(out / "model.safetensors") for out in (tmp_path / "detector", undisturbed))
    # the same micro-batches, summed in another order
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=2e-5)
    for a, b in zip(read_record(tmp_path / "detector").validations, read_record(undisturbed).validations, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-4)


def test_a_finished_run_is_returned_at_once_and_another_config_is_refused(separable, undisturbed):
    before = (undisturbed / "model.safetensors").stat().st_mtime_ns

    def never(event):
        raise AssertionError("trained again")

    assert train(separable, undisturbed, config(workers=1, checkpoint_every=5), progress=never) == read_record(
        undisturbed
    )
    with pytest.raises(InputError, match=r"differing: learning_rate, seed\)"):
        train(separable, undisturbed, config(learning_rate=1e-4, seed=1))
    assert (undisturbed / "model.safetensors").stat().st_mtime_ns == before


def test_an_interrupted_run_of_another_config_is_refused_until_restarted(separable, tmp_path):
    out = tmp_path / "detector"
    with pytest.raises(Interruption):
        train(separable, out, config(log_every=1), progress=stop_at(2))
    with pytest.raises(InputError, match=r"state\.pt is of a run with other settings \(differing: iterations\)"):
        train(separable, out, config(iterations=2))
    record = train(separable, out, config(iterations=1), restart=True)
    assert record.training.iterations == 1


def test_new_images_in_the_selection_are_noticed_and_images_outside_it_are_not(
    make_toy, tmp_path, photo, fake, to_bytes
):
    toy = make_toy(tmp_path)
    toy.add("photos", 0, [to_bytes(photo(n)) for n in range(8)], split="train")
    toy.add("gen", 1, [to_bytes(fake(n)) for n in range(8)], split="train")
    record = train(toy.root, tmp_path / "detector", config(iterations=1))
    toy.add("other", 1, [to_bytes(fake(9))], split="test")
    assert train(toy.root, tmp_path / "detector", config(iterations=1)) == record
    toy.add("gen", 1, [to_bytes(fake(10))], split="train")
    with pytest.raises(InputError, match="differing: selected images"):
        train(toy.root, tmp_path / "detector", config(iterations=1))


def test_a_folder_in_use_is_refused_with_its_holder(separable, tmp_path):
    (tmp_path / "detector").mkdir()
    with RunLock(tmp_path / "detector"), pytest.raises(RunLockHeld, match=f"process {os.getpid()} on "):
        train(separable, tmp_path / "detector", config())


def test_a_damaged_checkpoint_is_named(separable, tmp_path):
    (tmp_path / "detector/training").mkdir(parents=True)
    (tmp_path / "detector/training/state.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(InputError, match=r"state\.pt: not a training checkpoint"):
        train(separable, tmp_path / "detector", config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vgg"}, "architecture 'vgg' is unknown"),
        ({"mixed_precision": "fp16"}, r"'fp16' is not supported on cpu; allowed: auto, no, bf16"),
        ({"selection": {"split": "nope"}}, "split nope not in it; it has: test, train"),
        ({"selection": {"labels": (0,)}}, "no fake images"),
        ({"initial_backbone": Path("/nowhere")}, "no such file"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(separable, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train(separable, tmp_path / "detector", TrainConfig.model_validate(SHORT | changes, strict=False))
    assert not (tmp_path / "detector/detector.json").exists()


def test_divergence_is_an_error_and_saves_no_detector(separable, tmp_path):
    with pytest.raises(InputError, match="training diverged"):
        train(separable, tmp_path / "detector", config(learning_rate=1e20, iterations=4))
    assert not (tmp_path / "detector/detector.json").exists()


def test_fine_tuning_starts_from_the_given_detector(separable, trained, tmp_path):
    settings = config(initial_detector=trained, learning_rate=1e-12, iterations=1, augmentation="none")
    train(separable, tmp_path / "detector", settings)
    mine, theirs = load_file(tmp_path / "detector/model.safetensors"), load_file(trained / "model.safetensors")
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0, atol=1e-9)


def test_changed_weights_are_refused(undisturbed, tmp_path):
    for name in ("detector.json", "model.safetensors"):
        (tmp_path / name).write_bytes((undisturbed / name).read_bytes())
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="the weights were changed or damaged"):
        load_detector(tmp_path, "cpu")
