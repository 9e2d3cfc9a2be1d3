import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from dermino.cli.main import main
from dermino.data.download import Downloaded, download, read_offers
from dermino.data.download.address_lists import read_targets
from dermino.data.download.offer import find_offer
from dermino.data.download.web import Patience
from dermino.data.findings import Finding
from dermino.data.lesion_list import pixel_box
from dermino.data.source import import_source
from dermino.errors import DiskFull, UserError
from publisher import Publisher, md5, picture, refuse

METADATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "metadata"
QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=2.0, timeout=0.5)
BIG = bytes(range(256)) * 4096


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    serving = Publisher()
    yield serving
    serving.server.shutdown()
    serving.server.server_close()


def offer(path: Path, publisher: Publisher, **entry: object) -> Path:
    entry = {"about": "a test", "base": publisher.url, **entry}
    path.write_text(yaml.safe_dump({"set": entry}))
    return path


def fetch(tmp_path: Path, publisher: Publisher, entry: dict[str, object], **how: Any) -> Downloaded:
    addresses = offer(tmp_path / "offers.yaml", publisher, **entry)
    how = {"patience": QUICK, **how}
    return download("set", tmp_path / "out", addresses=addresses, **how)


def reasons(done: Downloaded) -> dict[str, str]:
    return {finding.path: finding.problem for finding in done.findings}


def test_dermino_s_own_offers_are_complete_and_tell_what_they_are() -> None:
    for name, found in read_offers().items():
        text = "\n".join(found.describe())
        assert found.files or found.listing, name
        assert "Licence: not known" not in text
        assert all(found.url(file).startswith("https://") for file in found.files)


def test_what_fails_for_a_while_is_tried_again(tmp_path: Path, publisher: Publisher) -> None:
    names = ("busy.zip", "asks.zip", "dated.zip", "slow.zip", "ok.zip")
    publisher.files = dict.fromkeys(names, BIG)

    def fail(handler: Any, path: str, attempt: int) -> bool:
        if path == "busy.zip" and attempt < 3:
            return refuse(handler, 500 if attempt == 1 else 503)
        if path == "asks.zip" and attempt == 1:
            return refuse(handler, 429, Retry_After="1")
        if path == "dated.zip" and attempt == 1:
            return refuse(handler, 503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
        if path == "slow.zip" and attempt == 1:
            threading.Event().wait(0.8)
        return False

    publisher.fail = fail
    done = fetch(tmp_path, publisher, {"files": list(publisher.files)})
    assert (done.fetched, done.findings) == (5, [])
    assert all((tmp_path / "out" / name).read_bytes() == BIG for name in publisher.files)
    assert not list((tmp_path / "out").glob("*.part*"))


def test_dead_links_are_listed_and_not_asked_again(tmp_path: Path, publisher: Publisher) -> None:
    publisher.files = {"there.csv": b"x"}

    def fail(handler: Any, path: str, attempt: int) -> bool:
        codes = {"always.zip": 500, "forbidden.zip": 403}
        if path == "patient.zip":
            return refuse(handler, 503, Retry_After="9000")
        return path in codes and refuse(handler, codes[path])

    publisher.fail = fail
    names = ["there.csv", "gone.zip", "always.zip", "forbidden.zip", "patient.zip"]
    done = fetch(tmp_path, publisher, {"files": names, "per_host": 1})
    expected = {
        "gone.zip": "HTTP 404",
        "always.zip": "HTTP 500",
        "forbidden.zip": "HTTP 403",
        "patient.zip": "host asks to be left alone",
    }
    assert reasons(done) == expected
    assert publisher.asked["always.zip"] == 3
    assert publisher.asked["gone.zip"] == publisher.asked["patient.zip"] == 1
    table = pd.read_csv(tmp_path / "out" / "download.findings.csv")
    assert set(table["path"]) == set(expected)
    again = fetch(tmp_path, publisher, {"files": names, "per_host": 1})
    assert (again.fetched, again.kept) == (0, 1)
    assert publisher.asked["gone.zip"] == 1
    assert publisher.asked["always.zip"] == 6, "what may come back is asked again"
    publisher.asked.clear()
    assert fetch(tmp_path, publisher, {"files": names[::-1], "per_host": 1}).kept == 1
    assert publisher.asked == {"patient.zip": 1}, "a host that asks for it is left alone"
    publisher.files["gone.zip"] = BIG
    assert fetch(tmp_path, publisher, {"files": names[:2]}, retry_dead=True).fetched == 1


def test_a_body_that_breaks_off_is_continued(tmp_path: Path, publisher: Publisher) -> None:
    publisher.files = {"big.zip": BIG}

    def fail(handler: Any, path: str, attempt: int) -> bool:
        if attempt < 6:  # More often than QUICK has attempts: each brings it further.
            publisher.serve(handler, path, stop_at=attempt * 100_000)
        return attempt < 6

    publisher.fail = fail
    done = fetch(tmp_path, publisher, {"files": ["big.zip"]})
    assert done.findings == []
    assert (tmp_path / "out" / "big.zip").read_bytes() == BIG
    assert len(publisher.ranges) == 5


def test_a_file_that_changed_is_fetched_anew(tmp_path: Path, publisher: Publisher) -> None:
    part = tmp_path / "out" / "big.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"old" * 100)
    part.with_name("big.zip.part.version").write_text('"of yesterday"')
    publisher.files = {"big.zip": BIG}
    fetch(tmp_path, publisher, {"files": ["big.zip"]})
    assert (tmp_path / "out" / "big.zip").read_bytes() == BIG
    assert publisher.ranges == []


@pytest.mark.parametrize("known", [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"bytes": 7}])
def test_a_file_that_is_not_the_published_one_is_refused(
    tmp_path: Path, publisher: Publisher, known: dict[str, object]
) -> None:
    publisher.files = {"big.zip": BIG}
    done = fetch(tmp_path, publisher, {"files": [{"path": "big.zip", **known}]})
    assert reasons(done)["big.zip"].endswith("is not the published one")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock",
        "download.findings.csv",
    ]


def test_the_checksum_that_a_host_states_is_kept_to(tmp_path: Path, publisher: Publisher) -> None:
    publisher.files = {"a.png": BIG, "b.png": BIG}
    publisher.md5["b.png"] = md5(b"something else")
    done = fetch(tmp_path, publisher, {"files": list(publisher.files)})
    assert reasons(done) == {"b.png": "transfer was damaged"}
    assert publisher.asked == {"a.png": 1, "b.png": 3}


def test_a_full_disk_ends_the_download_at_once(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.files = {f"{number}.zip": BIG for number in range(20)}
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match=r"no room for '.*\.zip'"):
        fetch(tmp_path, publisher, {"files": list(publisher.files), "per_host": 1})
    assert len(publisher.asked) <= 2


def test_files_there_are_kept_and_damaged_ones_fetched(
    tmp_path: Path, publisher: Publisher
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    publisher.files = {"a.zip": BIG, "b.zip": BIG}
    (out / "a.zip").write_bytes(BIG)
    (out / "b.zip").write_bytes(BIG[:-1] + b"?")
    md5 = hashlib.md5(BIG).hexdigest()
    entry: dict[str, object] = {"files": [{"path": name, "md5": md5} for name in publisher.files]}
    done = fetch(tmp_path, publisher, entry)
    assert (done.fetched, done.kept) == (1, 1)
    record = [json.loads(line) for line in (out / "downloaded.jsonl").read_text().splitlines()]
    assert [(line["path"], line["bytes"]) for line in record] == [("b.zip", len(BIG))]
    assert record[0]["sha256"] == hashlib.sha256(BIG).hexdigest()
    (out / "b.zip").write_bytes(b"cut")
    assert fetch(tmp_path, publisher, entry).fetched == 1


KILLED = """
import sys
from dermino.data.download import download
download("set", sys.argv[2], addresses=sys.argv[1])
"""


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path, publisher: Publisher) -> None:
    publisher.files = {"a.zip": BIG, "b.zip": BIG}
    sent, let_go = threading.Event(), threading.Event()

    def fail(handler: Any, path: str, attempt: int) -> bool:
        if path == "b.zip" and attempt == 1:
            publisher.serve(handler, path, stop_at=600_000)
            sent.set()
            let_go.wait(20)
        return path == "b.zip" and attempt == 1

    publisher.fail = fail
    entry: dict[str, object] = {"files": list(publisher.files), "per_host": 1}
    addresses = offer(tmp_path / "offers.yaml", publisher, **entry)
    command = [sys.executable, "-c", KILLED, str(addresses), str(tmp_path / "out")]
    process = subprocess.Popen(command)
    part = tmp_path / "out" / "b.zip.part"
    try:
        assert sent.wait(30)
        while not part.is_file() or part.stat().st_size < 400_000:
            assert process.poll() is None
            let_go.wait(0.01)
    finally:
        process.kill()
        process.wait()
        let_go.set()
    done = fetch(tmp_path, publisher, entry)
    assert (done.fetched, done.kept) == (1, 1)
    assert (tmp_path / "out" / "b.zip").read_bytes() == BIG
    assert publisher.asked["a.zip"] == 1
    assert len(publisher.ranges) == 1


def test_no_host_is_asked_by_more_than_the_offer_allows(
    tmp_path: Path, publisher: Publisher
) -> None:
    publisher.files = {f"{number}.csv": b"x" for number in range(30)}

    def fail(handler: Any, path: str, attempt: int) -> bool:
        threading.Event().wait(0.005)
        return False

    publisher.fail = fail
    done = fetch(tmp_path, publisher, {"files": list(publisher.files), "per_host": 3})
    assert done.fetched == 30
    assert publisher.most_at_once <= 3


def test_fitzpatrick17k_lists_what_is_gone_or_no_picture(
    tmp_path: Path, publisher: Publisher
) -> None:
    silent = "http://127.0.0.1:1/"
    rows = [
        f"aa,{publisher.url}one two.jpg",
        f"bb,{publisher.url}page.jpg",
        f"cc,{publisher.url}half.jpg",
        "dd,",
        "ee,ftp://example.org/x.jpg",
        *(f"f{number},{silent}{number}.jpg" for number in range(5)),
    ]
    publisher.files = {
        "fitzpatrick17k.csv": "\n".join(["md5hash,url", *rows]).encode(),
        "one%20two.jpg": picture("JPEG"),
        "page.jpg": b"<html>This page is gone</html>",
        "half.jpg": picture("JPEG")[:-30],
    }
    entry = {
        "files": ["fitzpatrick17k.csv"],
        "listing": "fitzpatrick17k",
        "table": "fitzpatrick17k.csv",
        "per_host": 1,
    }
    done = fetch(tmp_path, publisher, entry)
    found = reasons(done)
    assert (tmp_path / "out" / "images" / "aa.jpg").read_bytes() == picture("JPEG")
    assert found["images/bb.jpg"] == "not a picture"
    assert found["images/cc.jpg"] == "picture is damaged"
    assert found["dd"] == "row has no address"
    assert found["images/ee.jpg"] == "address cannot be used"
    assert found["images/f4.jpg"] == "host does not answer"
    assert not list((tmp_path / "out").rglob("*.part"))


def test_lesion130k_is_cropped_and_importable(tmp_path: Path, publisher: Publisher) -> None:
    url = publisher.url
    publisher.files = {
        "LESION130k.csv": (
            "## comment\n"
            f"00001 lesion 0.25 0.5 0.5 1.0 {url}x.png\n"
            f"00002 lesion 0.75 0.5 0.5 0.0 {url}x.png\n"
            f"100003 ../odd 0.75 0.5 0.5 1.0 {url}turned.jpg\n"
            f"00004 lesion 0.5 0.5 1 1 {url}gone.jpg\n"
        ).encode(),
        "x.png": picture(),
        "turned.jpg": picture("JPEG", orientation=6),
    }
    entry = {"files": ["LESION130k.csv"], "listing": "lesion130k", "table": "LESION130k.csv"}
    done = fetch(tmp_path, publisher, entry)
    out = tmp_path / "out"
    assert (done.fetched, reasons(done)) == (4, {"dataset/lesion/00004_lesion.png": "HTTP 404"})
    assert publisher.asked["x.png"] == 1
    left = Image.open(out / "dataset" / "lesion" / "00001_lesion.png")
    assert left.size == (20, 20)
    assert left.getpixel((19, 0)) == (255, 0, 0)
    assert Image.open(out / "dataset" / "lesion" / "00002_lesion.png").size == (40, 20)
    turned = Image.open(out / "dataset" / "_odd" / "100003__odd.png")
    assert turned.size == (20, 20)
    assert turned.getpixel((10, 10))[2] > 200, "the box is of the picture as it is stored"
    manifest = import_source("auto", out).manifest
    assert len(manifest) == 3
    assert sorted(manifest.column("lesion_number")) == ["00001", "00002", "100003"]
    assert fetch(tmp_path, publisher, entry).kept == 4


def test_pixel_boxes_stay_inside_and_flat_ones_are_the_image() -> None:
    assert pixel_box(0.5, 0.5, 0.5, 0.5, (100, 40)) == (25, 10, 75, 30)
    assert pixel_box(0.9, 0.1, 0.4, 0.4, (100, 40)) == (70, 0, 100, 12)
    assert pixel_box(0.5, 0.5, 0.5, 0.0, (100, 40)) == (0, 0, 100, 40)


def test_isic_archive_pages_become_an_export(tmp_path: Path, publisher: Publisher) -> None:
    def image(number: int) -> dict[str, Any]:
        name = f"ISIC_000000{number}"
        return {
            "isic_id": name,
            "attribution": "Hospital Italiano de Buenos Aires, and others",
            "copyright_license": "CC-BY",
            "metadata": {"acquisition": {"image_type": "dermoscopic"}, "clinical": {"sex": "male"}},
            "files": {"full": {"url": f"{publisher.url}{name}.jpg", "size": len(picture("JPEG"))}},
        }

    pages = [
        {"next": f"{publisher.url}search?cursor=2", "results": [image(1)]},
        {"next": None, "results": [image(2)]},
    ]
    publisher.files = {
        "search?cursor=1": json.dumps(pages[0]).encode(),
        "search?cursor=2": json.dumps(pages[1]).encode(),
        "ISIC_0000001.jpg": picture("JPEG"),
        "ISIC_0000002.jpg": picture("JPEG"),
    }
    publisher.fail = lambda handler, path, attempt: (
        path == "search?cursor=2" and attempt == 1 and refuse(handler, 502)
    )
    entry = {"listing": "isic-archive", "table": f"{publisher.url}search?cursor=1"}
    done = fetch(tmp_path, publisher, entry)
    assert (done.fetched, done.findings) == (2, [])
    table = pd.read_csv(tmp_path / "out" / "metadata.csv")
    assert table["isic_id"].tolist() == ["ISIC_0000001", "ISIC_0000002"]
    assert {"attribution", "copyright_license", "image_type", "sex"} <= set(table.columns)
    manifest = import_source("auto", tmp_path / "out").manifest
    assert manifest.column("sex") == ["male", "male"]
    assert manifest.column("modality") == ["dermoscopic", "dermoscopic"]


def test_scin_pictures_go_where_the_bucket_has_them(tmp_path: Path, publisher: Publisher) -> None:
    cases = "case_id,image_1_path,image_2_path,image_3_path\n1,dataset/images/-7.png,,\n"
    publisher.files = {
        "dataset/scin_cases.csv": cases.encode(),
        "dataset/scin_labels.csv": b"case_id,weighted_skin_condition_label\n1,{'Eczema': 1.0}\n",
        "dataset/images/-7.png": picture(),
    }
    files = ["dataset/scin_cases.csv", "dataset/scin_labels.csv"]
    entry = {"files": files, "listing": "scin", "table": "dataset/scin_cases.csv"}
    assert fetch(tmp_path, publisher, entry).fetched == 3
    manifest = import_source("auto", tmp_path / "out").manifest
    assert manifest.labels == [["Eczema"]]


def test_a_list_that_cannot_be_had_is_explained(tmp_path: Path, publisher: Publisher) -> None:
    entry = {"files": ["t.csv"], "listing": "lesion130k", "table": "t.csv"}
    with pytest.raises(UserError, match=r"'t\.csv'.* could not be fetched: HTTP 404"):
        fetch(tmp_path, publisher, entry)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_fetched_without_the_user_s_word(
    tmp_path: Path,
    publisher: Publisher,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher.files = {"a_Part3.csv": b"x", "b.zip": BIG}
    files: list[object] = [{"path": "b.zip", "bytes": len(BIG)}, "a_Part3.csv"]
    addresses = offer(tmp_path / "o.yaml", publisher, files=files, licence="CC0-1.0")
    out = tmp_path / "out"
    arguments = ["data", "download", "set", "--addresses", str(addresses), "--out", str(out)]
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    said = capsys.readouterr()
    assert "Nothing was fetched" in said.err
    assert "127.0.0.1" in said.out
    assert "CC0-1.0" in said.out
    assert not publisher.asked
    assert not out.exists()
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--only", "*part3*", "--yes"])
    assert publisher.asked == {"a_Part3.csv": 1}
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert "Nothing was fetched." in capsys.readouterr().out
    assert "b.zip" not in publisher.asked
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert (out / "b.zip").read_bytes() == BIG
    with pytest.raises(SystemExit, match="2"):
        main(["data", "download", "isic2107", "--out", str(out), "--yes"])
    assert "Did you mean 'isic2017'" in capsys.readouterr().err


@pytest.mark.skipif(not METADATA.is_dir(), reason="the publishers' tables are not here")
def test_the_real_fitzpatrick17k_table_names_what_the_facts_say() -> None:
    findings: list[Finding] = []
    found = find_offer("fitzpatrick17k")
    targets = read_targets(found, METADATA, lambda url: None, findings)
    assert len(targets) == 16_536
    assert Counter(finding.problem for finding in findings) == {"row has no address": 41}
    hosts = Counter(target.host.removeprefix("www.") for target in targets)
    assert hosts == {"dermaamin.com": 12_631, "atlasdermatologico.com.br": 3_905}
