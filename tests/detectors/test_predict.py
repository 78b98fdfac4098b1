"""Files in, scores out, one entry per file whatever the file is."""

import pytest

from detectors.predict import predict
from detectors.preprocessing import InferenceTransform, decode_rgb
from detectors.saved_detector import load_detector
from manifests.errors import InputError


@pytest.fixture
def folder(tmp_path, photo, fake, to_bytes):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "real.JPEG").write_bytes(to_bytes(photo(200), "JPEG", quality=95))
    (tmp_path / "deeper/fake.PNG").write_bytes(to_bytes(fake(201)))
    (tmp_path / "broken.png").write_bytes(to_bytes(fake(202))[:500])
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_scores_are_the_detectors_own_and_separate_the_classes(trained, folder):
    paths = [folder / "real.JPEG", folder / "deeper/fake.PNG"]
    got = predict(trained, paths, device="cpu")
    detector = load_detector(trained, "cpu")
    for entry, path in zip(got, paths, strict=True):
        image = InferenceTransform(detector.config.preprocessing)(decode_rgb(path.read_bytes()))
        assert entry.path == str(path)
        assert entry.score == pytest.approx(float(detector.logits(image[None]).sigmoid()), abs=1e-5)
        assert entry.label_at_0_5 == int(entry.score > 0.5)
        assert entry.error is None
    assert got[0].score < got[1].score


def test_a_bad_file_is_an_entry_with_an_error_and_the_others_are_scored(trained, folder):
    paths = [folder / "missing.png", folder / "broken.png", folder / "real.JPEG", folder / "notes.txt"]
    missing, broken, fine, text = predict(trained, paths, device="cpu", batch_size=1)
    assert "No such file" in missing.error
    assert "cannot decode" in broken.error
    assert "cannot decode" in text.error
    for entry in (missing, broken, text):
        assert (entry.score, entry.label_at_0_5) == (None, None)
    assert fine.error is None
    assert 0 <= fine.score <= 1


def test_a_folder_stands_for_its_image_files_in_name_order(trained, folder):
    got = predict(trained, [folder], device="cpu", batch_size=2)
    assert [entry.path for entry in got] == [
        str(folder / name) for name in ("broken.png", "deeper/fake.PNG", "real.JPEG")
    ]
    assert [entry.error is None for entry in got] == [False, True, True]


def test_batches_do_not_change_scores(trained, folder):
    paths = [folder / "real.JPEG", folder / "deeper/fake.PNG"] * 3
    one, many = (predict(trained, paths, device="cpu", batch_size=size) for size in (1, 4))
    assert [entry.score for entry in one] == pytest.approx([entry.score for entry in many], abs=1e-5)


def test_nothing_to_score_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="no paths given"):
        predict(trained, [])
    with pytest.raises(InputError, match="no image files in this folder"):
        predict(trained, [tmp_path])
