"""A folder opened as a hub: what is read, what is refused, and that every id is git's own."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawlers.hub_server import git_objects
from crawlers.hub_server.folder import HubFolder, Repo
from crawlers.hub_server.settings import read_settings
from manifests.errors import InputError


def write_repo(root: Path, repo_id: str, files: dict[str, bytes], hub: object = None, kind: str = "models") -> Path:
    repo = root / kind / repo_id
    repo.mkdir(parents=True)
    for name, data in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(data)
    if hub is not None:
        (repo / ".hub.yaml").write_text(hub if isinstance(hub, str) else yaml.safe_dump(hub))
    return repo


def opened(root: Path, repo_id: str = "owner/name") -> Repo:
    return HubFolder(root).repos["models"][repo_id]


def git_tree(folder: Path, work: Path) -> str:
    """The id that git itself gives to the tree of ``folder``."""
    env = {**os.environ, "GIT_DIR": str(work / "git"), "GIT_WORK_TREE": str(folder), "GIT_CONFIG_GLOBAL": os.devnull}
    for command in (["init", "-q"], ["add", "-A", "-f"]):
        subprocess.run(["git", *command], env=env, check=True, cwd=folder, capture_output=True)
    return subprocess.run(
        ["git", "write-tree"], env=env, check=True, cwd=folder, capture_output=True, text=True
    ).stdout[:40]


def test_ids_are_those_that_git_computes(tmp_path: Path) -> None:
    # "a-b", "a.txt" and the folder "a" sort differently in git (as "a/") than by name.
    files = {"a/x.txt": b"1", "a/b/c.json": b"{}", "a-b": b"2", "a.txt": b"3", "README.md": b"", "z/y/x/w.txt": b"4"}
    repo = write_repo(tmp_path / "hub", "owner/name", files)
    found = opened(tmp_path / "hub")
    assert found.folders[""] == git_tree(repo, tmp_path)
    assert list(found.files) == sorted(files)
    assert found.files["a.txt"].blob_id == hashlib.sha1(b"blob 1\x003").hexdigest() == found.files["a.txt"].etag


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "a-b", "a.b", "b", "é"]), min_size=1, max_size=3).map(tuple),
        st.binary(max_size=4),
        min_size=1,
        max_size=6,
    )
)
def test_tree_id_equals_git_for_any_layout(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, ...], bytes]
) -> None:
    paths = {
        path: data
        for path, data in files.items()
        if not any(path != other and path == other[: len(path)] for other in files)
    }
    work = tmp_path_factory.mktemp("tree")
    repo = write_repo(work / "hub", "owner/name", {"/".join(path): data for path, data in paths.items()})
    assert opened(work / "hub").folders[""] == git_tree(repo, work)


def test_large_and_binary_files_are_lfs_known_by_sha256(tmp_path: Path) -> None:
    weights = os.urandom(1000)
    write_repo(
        tmp_path,
        "owner/name",
        {"unet/model.safetensors": weights, "config.json": b"{}", "big.txt": b" " * (10 << 20 | 1)},
    )
    files = opened(tmp_path).files
    file = files["unet/model.safetensors"]
    assert file.sha256 == hashlib.sha256(weights).hexdigest() == file.etag
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize 1000\n".encode()
    assert file.blob_id == hashlib.sha1(f"blob {len(pointer)}\0".encode() + pointer).hexdigest()
    assert files["config.json"].sha256 is None
    assert files["big.txt"].sha256 is not None
    assert all(
        git_objects.is_lfs(name, 1) for name in ("x.bin", "a/B.PNG", "m.msgpack", "m.ckpt", "m.h5", "m.onnx", "m.pt")
    )
    assert not any(
        git_objects.is_lfs(name, 1) for name in ("a.json", "merges.txt", "bin", "safetensors.md", "a.bin.index.json")
    )


def test_revision_is_a_function_of_content_alone(tmp_path: Path) -> None:
    files = {"a.json": b"1", "b/c.bin": b"2"}
    write_repo(tmp_path / "one", "owner/name", files, {"downloads": 5})
    write_repo(tmp_path / "two", "other/thing", files)
    write_repo(tmp_path / "three", "owner/name", {**files, "a.json": b"3"})
    one, two, three = opened(tmp_path / "one"), opened(tmp_path / "two", "other/thing"), opened(tmp_path / "three")
    assert len(one.sha) == 40 and one.sha == two.sha != three.sha
    assert [one.has_revision(name) for name in ("main", one.sha, one.sha[:7], "dev", three.sha)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_hidden_files_are_not_part_of_a_repo(tmp_path: Path) -> None:
    write_repo(tmp_path, "owner/name", {"a.txt": b"", ".git/config": b"", "x/.secret": b"", ".gitattributes": b""}, {})
    assert list(opened(tmp_path).files) == [".gitattributes", "a.txt"]


def test_second_start_reads_no_file_again_and_sees_every_change(tmp_path: Path) -> None:
    repo = write_repo(tmp_path / "hub", "owner/name", {"a.bin": b"1111", "b.bin": b"2222", "c.txt": b"3"})
    for name in ("a.bin", "b.bin", "c.txt"):
        os.utime(repo / name, (1_600_000_000, 1_600_000_000))
    first = HubFolder(tmp_path / "hub")
    again = HubFolder(tmp_path / "hub")
    assert (first.files_hashed, again.files_hashed) == (3, 0)
    assert first.repos == again.repos
    assert not any(".hub" in path for path in again.repos["models"]["owner/name"].files)
    (repo / "b.bin").write_bytes(b"9999")  # same size; only the time stamp tells
    changed = HubFolder(tmp_path / "hub")
    assert changed.files_hashed == 1
    assert changed.repos["models"]["owner/name"].files["b.bin"].sha256 == hashlib.sha256(b"9999").hexdigest()
    # A file that was just written is not trusted to be settled.
    assert HubFolder(tmp_path / "hub").files_hashed == 1


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"version": 99, "files": {}}', '{"version": 1, "files": 3}'])
def test_damaged_hash_cache_costs_only_time(tmp_path: Path, junk: str) -> None:
    write_repo(tmp_path, "owner/name", {"a.bin": b"1"})
    (tmp_path / ".hub-hashes.json").write_text(junk)
    assert HubFolder(tmp_path).files_hashed == 1


def test_card_and_hub_tags(tmp_path: Path) -> None:
    card = (
        "---\nlicense: mit\nbase_model: runwayml/sd\nbase_model_relation: adapter\ntags: [lora]\n"
        "pipeline_tag: text-to-image\ndate: 2024-01-01\n---\n# Hi\n"
    )
    files = {
        "README.md": card.encode(),
        "model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
        "x.safetensors": b"1",
    }
    write_repo(tmp_path, "owner/name", files, {"tags": ["mine"]})
    repo = opened(tmp_path)
    assert repo.tags == [
        "mine", "diffusers", "safetensors", "text-to-image", "lora", "diffusers:StableDiffusionPipeline",
        "license:mit", "base_model:runwayml/sd", "base_model:adapter:runwayml/sd", "region:us",
    ]  # fmt: skip
    assert repo.config == {"diffusers": {"_class_name": "StableDiffusionPipeline"}}
    assert repo.card["date"] == "2024-01-01"
    assert (repo.library_name, repo.pipeline_tag, repo.author) == ("diffusers", "text-to-image", "owner")


@pytest.mark.parametrize(
    "readme",
    [
        b"---\n{ : [\n---\n",
        b"---\nno end",
        b"no front matter",
        b"\xff\xfe",
        b"---\n- a\n---\n",
        b"---\na: 2024-13-45\n---\n",
        b"---\na: &a [*a]\n---\n",
    ],
)
def test_strangers_broken_card_is_no_card(tmp_path: Path, readme: bytes) -> None:
    write_repo(tmp_path, "owner/name", {"README.md": readme})
    assert opened(tmp_path).card == {}


def test_card_of_odd_types_is_no_obstacle(tmp_path: Path) -> None:
    card = b"---\npipeline_tag: [a, b]\nlibrary_name: {x: 1}\ntags: 7\nbase_model: [[a], b]\nlicense: null\n---\n"
    write_repo(tmp_path, "owner/name", {"README.md": card.replace(b"\n", b"\r\n"), "model_index.json": b"[1]"})
    repo = opened(tmp_path)
    assert (repo.pipeline_tag, repo.library_name) == (None, "diffusers")
    assert {"7", "base_model:b"} <= set(repo.tags)


@pytest.mark.parametrize(
    ("hub", "words"),
    [
        ({"download": 1}, ["unknown key 'download'", "downloads", "gated_token"]),
        ({"downloads": -1}, ["downloads", "-1", "greater than or equal to 0"]),
        ({"downloads": True}, ["downloads", "integer"]),
        ({"gated": True}, ["gated", "'auto'", "'manual'"]),
        ({"private": "no thanks"}, ["private", "boolean"]),
        ({"tags": "one"}, ["tags", "'one'"]),
        ({"created_at": "someday"}, ["created_at", "'someday'"]),
        ({"behaviour": {"slow": 1}}, ["unknown key 'behaviour.slow'", "bytes_per_second"]),
        ({"behaviour": {"rate_limit": {"after": 1}}}, ["behaviour.rate_limit.after", "retry_after"]),
        ({"behaviour": {"bytes_per_second": 0}}, ["behaviour.bytes_per_second", "greater than 0"]),
        ({"behaviour": {"corrupt": ["nope.bin"]}}, ["behaviour.corrupt", "'nope.bin'"]),
        ({"gated_token": "a", "behaviour": {"gated_token": "b"}}, ["gated_token", "differ"]),
        ("a: [", ["not valid YAML"]),
        ("created_at: 2024-13-45", ["not valid YAML", "month"]),
        ("- a", ["must be a mapping"]),
    ],
)  # fmt: skip
def test_bad_settings_name_file_key_and_what_is_allowed(tmp_path: Path, hub: object, words: list[str]) -> None:
    repo = write_repo(tmp_path, "owner/name", {"a.txt": b""}, hub)
    with pytest.raises(InputError) as error:
        HubFolder(tmp_path)
    for word in [str(repo / ".hub.yaml"), *words]:
        assert word in str(error.value)


def test_documented_settings_are_accepted(tmp_path: Path) -> None:
    import crawlers.hub_server as package

    text = (package.__doc__ or "").split("allowed)::\n\n")[1].split("\n\n``gated_token``")[0]
    repo = write_repo(tmp_path, "owner/name", {"unet/model.safetensors": b"1"}, text)
    read = read_settings(repo)
    assert set(yaml.safe_load(text)) == set(type(read).model_fields)
    assert set(yaml.safe_load(text)["behaviour"]) | {"gated_token"} == set(type(read.behaviour).model_fields)
    HubFolder(tmp_path)


def test_folders_that_are_no_hub(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="models/<owner>/<name>"):
            HubFolder(folder)
    (tmp_path / "models").mkdir()
    with pytest.raises(InputError, match="holds no repo"):
        HubFolder(tmp_path)
    (tmp_path / "models" / "stray.txt").write_text("")
    with pytest.raises(InputError, match=r"stray.txt: not a folder"):
        HubFolder(tmp_path)


@pytest.mark.parametrize("name", ["a--b", "a..b", "-a", "a.", "a b", "x" * 97, "a.git"])
def test_names_that_no_hub_allows(tmp_path: Path, name: str) -> None:
    write_repo(tmp_path, f"owner/{name}", {"a.txt": b""})
    with pytest.raises(InputError, match="is no name on a hub"):
        HubFolder(tmp_path)


def test_unreadable_folder(tmp_path: Path) -> None:
    write_repo(tmp_path, "owner/name", {"a.txt": b""})
    (tmp_path / "models" / "owner").chmod(0)
    # Root may read everything, so whoever runs the tests, another user asks.
    code = (
        "import os, sys\nfrom crawlers.hub_server.folder import HubFolder\nfrom manifests.errors import InputError\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: HubFolder(sys.argv[1])\nexcept InputError as error: print(error)"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest-of-" in str(folder):  # pytest's own, which only their owner may enter
            folder.chmod(0o755)
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    (tmp_path / "models" / "owner").chmod(0o755)
    assert f"{tmp_path / 'models' / 'owner'}: cannot be read" in said.stdout


def test_links_are_followed_inside_the_root_only(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    repo = write_repo(root, "owner/name", {"vae/a.bin": b"1234"})
    (repo / "shared").symlink_to(repo / "vae")
    (repo / "b.bin").symlink_to(repo / "vae" / "a.bin")
    files = opened(root).files
    assert list(files) == ["b.bin", "shared/a.bin", "vae/a.bin"]
    assert len({file.sha256 for file in files.values()}) == 1

    (tmp_path / "secret").write_text("secret")
    for name, target in {"out": tmp_path / "secret", "up": tmp_path, "gone": tmp_path / "gone", "loop": repo}.items():
        (repo / name).symlink_to(target)
        with pytest.raises(InputError, match=f"{name}: a symbolic link that lead|{name}: a symbolic link that leaves"):
            HubFolder(root)
        (repo / name).unlink()
    HubFolder(root)


def test_repo_that_is_a_link_out_of_the_root(tmp_path: Path) -> None:
    write_repo(tmp_path / "elsewhere", "owner/name", {"a.txt": b""})
    (tmp_path / "hub" / "models" / "owner").mkdir(parents=True)
    (tmp_path / "hub" / "models" / "owner" / "name").symlink_to(tmp_path / "elsewhere" / "models" / "owner" / "name")
    with pytest.raises(InputError, match="leaves"):
        HubFolder(tmp_path / "hub")
