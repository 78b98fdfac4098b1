"""The roots of a catalog's generators: through aliases, bases outside of it, and shared weights."""

from pathlib import Path
from typing import Any

from crawl_runs import asked_repos, rows_of

from crawlers.hub_server.server import HubServer


def test_lineage_through_aliases_bases_and_shared_weights(hub_folder: Any, tmp_path: Path) -> None:
    old, new = "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"
    hub_folder.sd(new, downloads=100, unet=b"the v1-5 unet")
    hub_folder.sd("t/tune", downloads=90, card={"base_model": old})
    hub_folder.sd("t/tune-of-tune", downloads=80, card={"base_model": "t/tune"})
    hub_folder.sd("t/reupload", downloads=70, unet=b"the v1-5 unet")
    hub_folder.sd("t/unlisted-child", downloads=60, card={"base_model": "t/unlisted"})
    hub_folder.sd("t/unlisted", downloads=1, library_name="other", card={"base_model": "far/root"})
    hub_folder.sd("t/merge", downloads=50, card={"base_model": ["t/tune", "q/q"]})
    with HubServer(hub_folder.root) as hub:
        rows = rows_of(hub, tmp_path / "gone")
        assert {name: row.lineage for name, row in rows.items()} == {
            new: new,
            "t/tune": new,
            "t/tune-of-tune": new,
            "t/reupload": new,
            "t/unlisted-child": "far/root",
            "t/merge": new,
        }
        assert rows["t/tune"].detail == f"alias {old} -> {new} not verified"
        assert rows["t/tune"].base_model == old
        assert rows["t/merge"].base_model == "t/tune, q/q"
        assert "merged from 2 bases" in str(rows["t/merge"].detail)
        asked = asked_repos(hub)
        assert sorted(asked) == sorted(set(asked)), "a repo was asked for twice"
    # The old base is still there: the alias is checked by hashes.
    for unet, lineage, note in ((b"the v1-5 unet", new, "verified by weight hashes"), (b"another", old, "refused")):
        hub_folder.sd(old, downloads=95, unet=unet)
        with HubServer(hub_folder.root) as hub:
            row = rows_of(hub, tmp_path / note.split()[0])["t/tune"]
        assert row.lineage == lineage
        assert note in str(row.detail)
