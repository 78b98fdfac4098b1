"""The unmodified ``huggingface_hub`` client against a hub: listing, describing, downloading, refusals."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, RepoCard, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils import get_session, hf_raise_for_status

from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer

WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: openrail\nbase_model: base/one\n---\n# Card\n"


def write_repo(root: Path, repo_id: str, files: dict[str, bytes], hub: object = None, kind: str = "models") -> Path:
    repo = root / kind / repo_id
    repo.mkdir(parents=True)
    for name, data in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(data)
    if hub is not None:
        (repo / ".hub.yaml").write_text(yaml.safe_dump(hub))
    return repo


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("hub")
    for number in range(250):
        hub_yaml = {"downloads": (number * 37) % 250, "likes": number // 10, "tags": [f"mod{number % 3}"]}
        write_repo(root, f"many-{number % 5}/model-{number:03d}", {"config.json": b"{}"}, hub_yaml)
    write_repo(
        root,
        "owner/sd",
        {
            "README.md": CARD.encode(),
            "model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
            "unet/model.safetensors": WEIGHTS,
            "unet/config.json": b'{"a": 1}',
            "with space/é+%.txt": b"odd",
            "empty.txt": b"",
        },
        {
            "downloads": 9000,
            "likes": 12,
            "created_at": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
            "last_modified": datetime(2024, 6, 1, tzinfo=UTC),
            "pipeline_tag": "text-to-image",
        },
    )
    files = {"a.txt": b"a", "w.bin": b"w"}
    write_repo(root, "owner/gated", files, {"gated": "manual", "gated_token": "hf_open", "downloads": 8000})
    write_repo(root, "owner/shut", files, {"gated": "auto"})
    write_repo(root, "owner/private", files, {"private": True, "gated_token": "hf_mine"})
    write_repo(root, "owner/deleted", files, {"behaviour": {"missing": True}, "downloads": 7000})
    write_repo(root, "owner/photos", {"train/0.jpg": b"jpg", "README.md": b"# x"}, {"downloads": 3}, kind="datasets")
    with HubServer(root, HubOptions(page_size=100)) as server:
        yield server


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def test_listing_pages_through_every_repo_by_downloads(hub: HubServer, api: HfApi) -> None:
    before = len(hub.requests())
    found = list(api.list_models())
    assert len(found) == len({model.id for model in found}) == 254  # 250 + sd, gated, shut, deleted; not the private
    assert [model.id for model in found[:3]] == ["owner/sd", "owner/gated", "owner/deleted"]
    downloads = [model.downloads or 0 for model in found]
    assert downloads == sorted(downloads, reverse=True)
    assert len(hub.requests(since=before)) == 3
    assert found[0].siblings is None


def test_listing_stops_asking_at_its_limit(hub: HubServer, api: HfApi) -> None:
    before = len(hub.requests())
    assert len(list(api.list_models(limit=150))) == 150
    assert len(hub.requests(since=before)) == 2


def test_listing_filters_and_orders(api: HfApi) -> None:
    assert len(list(api.list_models(author="many-3"))) == 50
    assert len(list(api.list_models(filter=["mod1", "diffusers"]))) == 83
    assert [model.id for model in api.list_models(search="MODEL-007")] == ["many-2/model-007"]
    assert [model.id for model in api.list_models(pipeline_tag="text-to-image")] == ["owner/sd"]
    assert {model.id for model in api.list_models(gated=True)} == {"owner/gated", "owner/shut"}
    assert len(list(api.list_models(gated=False))) == 252
    newest = list(api.list_models(sort="last_modified", limit=1))
    assert newest[0].id == "owner/sd"
    likes = [model.likes or 0 for model in api.list_models(sort="likes")]
    assert likes == sorted(likes, reverse=True)
    assert list(api.list_models(author="nobody")) == []
    with pytest.raises(BadRequestError):
        list(api.list_models(sort="beauty"))  # type: ignore[arg-type]


def test_listing_with_details(api: HfApi) -> None:
    (full,) = api.list_models(search="owner/sd", full=True, cardData=True, fetch_config=True)
    assert full.sha is not None and len(full.sha) == 40
    assert full.author == "owner"
    assert [sibling.rfilename for sibling in full.siblings or []] == [
        "README.md", "empty.txt", "model_index.json", "unet/config.json", "unet/model.safetensors", "with space/é+%.txt"
    ]  # fmt: skip
    assert full.card_data is not None and full.card_data.license == "openrail"
    assert full.config == {"diffusers": {"_class_name": "StableDiffusionPipeline"}}
    (some,) = api.list_models(search="owner/sd", expand=["downloads", "gated", "baseModels", "gguf"])
    assert (some.downloads, some.gated, some.sha, some.tags) == (9000, False, None, None)
    assert [base["id"] for base in (some.base_models or {})["models"]] == ["base/one"]


def test_model_info_with_file_metadata(api: HfApi) -> None:
    info = api.model_info("owner/sd", files_metadata=True)
    assert (info.id, info.downloads, info.likes, info.pipeline_tag) == ("owner/sd", 9000, 12, "text-to-image")
    assert info.created_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert info.last_modified == datetime(2024, 6, 1, tzinfo=UTC)
    assert (info.gated, info.private, info.disabled) == (False, False, False)
    assert "diffusers:StableDiffusionPipeline" in (info.tags or [])
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    weights = files["unet/model.safetensors"]
    assert weights.lfs is not None
    assert (weights.size, weights.lfs.size, weights.lfs.sha256) == (10240, 10240, hashlib.sha256(WEIGHTS).hexdigest())
    assert files["unet/config.json"].lfs is None
    assert files["unet/config.json"].blob_id == hashlib.sha1(b'blob 8\0{"a": 1}').hexdigest()
    assert info.used_storage == sum(sibling.size or 0 for sibling in files.values())
    assert (
        api.model_info("owner/sd", revision=info.sha).sha == info.sha == api.model_info("owner/sd", revision="main").sha
    )
    assert all(sibling.size is None for sibling in api.model_info("owner/sd").siblings or [])
    assert api.model_info("owner/sd", expand=["likes"]).likes == 12


def test_tree_paths_refs_commits(api: HfApi) -> None:
    info = api.model_info("owner/sd", files_metadata=True)
    top = {entry.path: entry for entry in api.list_repo_tree("owner/sd")}
    assert set(top) == {"README.md", "empty.txt", "model_index.json", "unet", "with space"}
    assert isinstance(top["unet"], RepoFolder)
    everything = list(api.list_repo_tree("owner/sd", recursive=True, revision=info.sha))
    assert {entry.path for entry in everything if isinstance(entry, RepoFile)} == {
        sibling.rfilename for sibling in info.siblings or []
    }
    inside = list(api.list_repo_tree("owner/sd", "with space", expand=True))
    assert [entry.path for entry in inside] == ["with space/é+%.txt"]
    assert inside[0].last_commit is not None and inside[0].last_commit.oid == info.sha
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("owner/sd", "nowhere"))
    paths = api.get_paths_info("owner/sd", ["unet", "unet/model.safetensors", "nope"], expand=True)
    assert [entry.path for entry in paths] == ["unet", "unet/model.safetensors"]
    assert isinstance(paths[1], RepoFile) and paths[1].lfs is not None
    refs = api.list_repo_refs("owner/sd")
    assert [(branch.name, branch.target_commit) for branch in refs.branches] == [("main", info.sha)]
    assert [commit.commit_id for commit in api.list_repo_commits("owner/sd")] == [info.sha]
    assert api.file_exists("owner/sd", "unet/config.json") and not api.file_exists("owner/sd", "no.txt")
    assert api.repo_exists("owner/sd") and not api.repo_exists("owner/nothing")


def test_snapshot_holds_exactly_the_repo_and_a_second_one_downloads_nothing(
    hub: HubServer, api: HfApi, tmp_path: Path
) -> None:
    sha = api.model_info("owner/sd").sha
    folder = Path(snapshot_download("owner/sd", revision=sha, endpoint=hub.endpoint, cache_dir=tmp_path, token=False))
    got = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert got == {
        "README.md": CARD.encode(),
        "model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
        "unet/model.safetensors": WEIGHTS,
        "unet/config.json": b'{"a": 1}',
        "with space/é+%.txt": b"odd",
        "empty.txt": b"",
    }
    blob = (folder / "unet/model.safetensors").resolve().name
    assert blob == hashlib.sha256(WEIGHTS).hexdigest()

    before = len(hub.requests())
    again = snapshot_download("owner/sd", revision=sha, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    assert again == str(folder)
    assert hub.requests(since=before) == []
    snapshot_download("owner/sd", revision="main", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    asked = hub.requests(since=before)
    assert all(request.sent == 0 for request in asked) and not any("/resolve/" in request.path for request in asked)


def test_same_bytes_under_a_new_commit_are_not_sent_again(tmp_path: Path) -> None:
    weights = os.urandom(5000)
    for name, note in (("one", b"1"), ("two", b"2")):
        write_repo(tmp_path / name, "owner/name", {"w.bin": weights, "note.txt": note})
    for name, sent in (("one", {"w.bin": 5000, "note.txt": 1}), ("two", {"note.txt": 1})):
        with HubServer(tmp_path / name) as server:
            snapshot_download("owner/name", endpoint=server.endpoint, cache_dir=tmp_path / "cache", token=False)
            got = {request.path.rpartition("/")[2]: request.sent for request in server.requests() if request.sent}
        assert got == sent


def test_download_of_one_file(hub: HubServer, tmp_path: Path) -> None:
    for name, data in {"with space/é+%.txt": b"odd", "empty.txt": b"", "unet/model.safetensors": WEIGHTS}.items():
        path = hf_hub_download("owner/sd", name, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
        assert Path(path).read_bytes() == data
    card = RepoCard.load(
        hf_hub_download("owner/sd", "README.md", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    )
    assert card.data.license == "openrail"


def test_interrupted_file_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    # The client keeps whole pieces of this size; what it got of the next one is asked for again.
    piece = constants.DOWNLOAD_CHUNK_SIZE
    size, cut = piece + 3000, piece + 1000
    weights = os.urandom(size)
    write_repo(tmp_path / "hub", "owner/name", {"w.bin": weights}, {"behaviour": {"cut_after_bytes": cut}})
    with HubServer(tmp_path / "hub") as server:
        path = hf_hub_download("owner/name", "w.bin", endpoint=server.endpoint, cache_dir=tmp_path, token=False)
        bodies = [request for request in server.requests() if request.method == "GET"]
    assert Path(path).read_bytes() == weights
    assert [(body.status, body.range, body.sent) for body in bodies] == [
        (200, None, cut),
        (206, f"bytes={piece}-", size - piece),
    ]


def test_what_does_not_exist(hub: HubServer, api: HfApi, tmp_path: Path) -> None:
    def download(repo: str, name: str, revision: str | None = None) -> str:
        return hf_hub_download(repo, name, revision=revision, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)

    for repo in ("owner/deleted", "owner/nothing", "owner/private"):
        with pytest.raises(RepositoryNotFoundError) as missing:
            api.model_info(repo)
        assert not isinstance(missing.value, GatedRepoError)
        assert missing.value.response.status_code == 404
        with pytest.raises(RepositoryNotFoundError):
            download(repo, "a.txt")
        with pytest.raises(RepositoryNotFoundError):
            snapshot_download(repo, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    for revision in ("dev", "0" * 40, "refs/pr/1"):
        with pytest.raises(RevisionNotFoundError):
            api.model_info("owner/sd", revision=revision)
        with pytest.raises(RevisionNotFoundError):
            download("owner/sd", "README.md", revision)
    before = len(hub.requests())
    with pytest.raises(RemoteEntryNotFoundError):
        download("owner/sd", "nope.json")
    assert [request.status for request in hub.requests(since=before)] == [404]
    sha = api.model_info("owner/sd").sha
    assert [path.name for path in (tmp_path / "models--owner--sd" / ".no_exist" / str(sha)).iterdir()] == ["nope.json"]


def test_gated_repo_is_described_to_all_and_open_to_its_token(hub: HubServer, tmp_path: Path) -> None:
    def download(token: str | bool, repo: str = "owner/gated") -> str:
        return hf_hub_download(repo, "w.bin", endpoint=hub.endpoint, cache_dir=tmp_path, token=token)

    info = HfApi(endpoint=hub.endpoint, token=False).model_info("owner/gated", files_metadata=True)
    assert info.gated == "manual" and len(info.siblings or []) == 2
    for token, status in ((False, 401), ("hf_other", 403)):
        with pytest.raises(GatedRepoError) as refused:
            download(token)
        assert refused.value.response.status_code == status
        assert "owner/gated is restricted" in str(refused.value)
        with pytest.raises(GatedRepoError):
            HfApi(endpoint=hub.endpoint, token=token).auth_check("owner/gated")
    with pytest.raises(GatedRepoError):
        download("hf_open", "owner/shut")
    assert Path(download("hf_open")).read_bytes() == b"w"
    HfApi(endpoint=hub.endpoint, token="hf_open").auth_check("owner/gated")


def test_private_repo_exists_for_its_token_only(hub: HubServer) -> None:
    mine = HfApi(endpoint=hub.endpoint, token="hf_mine")
    assert mine.model_info("owner/private").private is True
    assert "owner/private" in {model.id for model in mine.list_models(author="owner")}
    other = HfApi(endpoint=hub.endpoint, token="hf_other")
    assert "owner/private" not in {model.id for model in other.list_models(author="owner")}
    with pytest.raises(RepositoryNotFoundError):
        other.model_info("owner/private")


def test_whoami(hub: HubServer) -> None:
    assert HfApi(endpoint=hub.endpoint, token="hf_x").whoami()["name"] == "reader"
    with pytest.raises(HfHubHTTPError, match="401"):
        hf_raise_for_status(get_session().get(f"{hub.endpoint}/api/whoami-v2"))


def test_dataset_repos(hub: HubServer, api: HfApi, tmp_path: Path) -> None:
    assert [dataset.id for dataset in api.list_datasets()] == ["owner/photos"]
    info = api.dataset_info("owner/photos", files_metadata=True)
    assert info.downloads == 3 and len(info.siblings or []) == 2
    path = hf_hub_download(
        "owner/photos", "train/0.jpg", repo_type="dataset", endpoint=hub.endpoint, cache_dir=tmp_path, token=False
    )
    assert Path(path).read_bytes() == b"jpg"
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("owner/photos")
