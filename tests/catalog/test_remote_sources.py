"""Sources in an object store, against moto's S3 server: the one stand-in that the house allows."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO

import fsspec
import pytest
from botocore.exceptions import ClientError
from PIL import Image
from s3fs.errors import translate_boto_error

from catalog.ingest.run import ingest
from catalog.photo_store import PhotoStore
from catalog.quarantine import load_quarantine
from catalog.sources import FilePhoto, make_source, read_photos
from catalog.sources.remote import RemoteError, _of_file


@pytest.fixture(scope="module")
def s3() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty store, which the environment names as botocore reads it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield fsspec.filesystem("s3")
        server.stop()


@pytest.fixture
def bucket(s3, request) -> Iterator[str]:
    """A bucket of the test's own."""
    name = f"shop-{abs(hash(request.node.name))}"
    s3.mkdir(name)
    yield name
    s3.rm(name, recursive=True)


def jpeg(color: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (24, 16), color).save(buffer, "JPEG")
    return buffer.getvalue()


def put_folder(s3, tmp_path, bucket: str) -> tuple[str, str]:
    """The same image folder in the store and on this machine."""
    names = {"jam/1.jpg": "red", "jam/deep/2 [1].jpg": "pink", "tea/3.jpg": "green", "tea/.hidden": "blue"}
    names |= {"jam-b/4.jpg": "brown", "jam0/5.jpg": "black"}  # sorted around what starts with jam/
    for name, color in names.items():
        s3.pipe(f"{bucket}/raw/{name}", jpeg(color))
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(jpeg(color))
    return f"s3://{bucket}/raw/", str(tmp_path / "raw")


def test_an_image_folder_in_s3_is_the_same_as_on_this_machine(s3, tmp_path, bucket):
    remote, local = (list(make_source("image_folder", root=root).photos()) for root in put_folder(
        s3, tmp_path, bucket
    ))  # fmt: skip
    assert [(p.photo_id, p.label) for p in remote] == [(p.photo_id, p.label) for p in local]
    assert read_photos(remote) == read_photos(local)
    assert remote[1].read() == local[1].read()


def test_a_remote_photos_stamp_comes_with_the_listing_and_changes_with_the_object(s3, tmp_path, bucket):
    root, _ = put_folder(s3, tmp_path, bucket)
    before = [photo.stamp() for photo in make_source("image_folder", root=root).photos()]
    s3.pipe(f"{bucket}/raw/jam/1.jpg", jpeg("black"))
    source = make_source("image_folder", root=root)
    s3.rm(f"{bucket}/raw/tea/3.jpg")  # a stamp asks nobody, so it is still known
    after = [photo.stamp() for photo in source.photos()]
    assert None not in before
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True, True, True]


def test_a_table_in_s3_takes_paths_and_urls(s3, bucket):
    rows = f"path,label\n1.jpg,jam\ns3://{bucket}/raw/2.jpg,tea\ns3://other/3.jpg,tea\n"
    s3.pipe(
        {f"{bucket}/raw/{n}.jpg": jpeg("red") for n in (1, 2, 4)} | {f"{bucket}/raw/t.csv": rows.encode()}
    )
    source = make_source("table", root=f"s3://{bucket}/raw", options={"index": "t.csv"})
    photos = list(source.photos())
    assert [(photo.photo_id, photo.label) for photo in photos] == [("1.jpg", "jam"), ("2.jpg", "tea")]
    assert all(photo.stamp() for photo in photos)
    assert {aside.photo_id: aside.reason for aside in source.set_aside()} == {
        "s3://other/3.jpg": "outside_root",
        "4.jpg": "no_row",
    }


def test_indexes_of_the_challenge_are_read_from_s3(s3, bucket):
    images = {"images": [{"class_id": "00003", "image_id": "1.jpg"}]}
    s3.pipe(
        {f"{bucket}/ali/train.json": json.dumps(images).encode(), f"{bucket}/ali/train/00003/1.jpg": b"x"}
    )
    (photo,) = make_source("aliproducts", root=f"s3://{bucket}/ali").photos()
    assert (photo.photo_id, photo.label, photo.read()) == ("train/00003/1.jpg", "00003", b"x")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'train\.json'"):
        make_source("list_file", root=f"s3://{bucket}/ali", options={"index": "trains.json"})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ingest_from_s3_gives_the_store_of_the_same_local_photos(s3, tmp_path, bucket, num_workers):
    remote, local = put_folder(s3, tmp_path, bucket)
    ingest(make_source("image_folder", root=local), tmp_path / "local", num_workers=0, progress=False)
    source = make_source("image_folder", root=remote)
    report = ingest(source, tmp_path / "remote", num_workers=num_workers, progress=False)
    assert report.num_photos == 5
    for file in sorted((tmp_path / "local").iterdir()):
        assert file.read_bytes() == (tmp_path / "remote" / file.name).read_bytes(), file.name
    assert PhotoStore(tmp_path / "remote").read(0) == jpeg("red")


def test_an_object_that_has_gone_is_refused_and_does_not_stop_the_others(s3, tmp_path, bucket):
    root, _ = put_folder(s3, tmp_path, bucket)
    source = make_source("image_folder", root=root)
    s3.rm(f"{bucket}/raw/jam/1.jpg")
    assert ingest(source, tmp_path / "store", num_workers=0, progress=False).num_photos == 4
    row, hidden = load_quarantine(tmp_path / "store").iter_rows(named=True)
    assert (hidden["photo_id"], hidden["reason"]) == ("tea/.hidden", "hidden")
    assert (row["photo_id"], row["reason"]) == ("jam/1.jpg", "unreadable")
    assert "No such file or directory" in row["message"]


def test_a_remote_photo_is_small_when_it_is_sent_to_a_worker(s3, tmp_path, bucket):
    root, _ = put_folder(s3, tmp_path, bucket)
    photos = list(make_source("image_folder", root=root).photos())
    assert pickle.loads(pickle.dumps(photos)) == photos
    assert len(pickle.dumps(photos[0])) < 400  # bytes: no connection, no credentials


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("s3://no-such-bucket/raw", "s3://no-such-bucket/raw, found none .*bucket does not exist"),
        ("s3://{bucket}/nothing", "Expected a folder at s3://.*/nothing, found none"),
        ("s3:/{bucket}/raw", "a Path loses one of its slashes"),
        ("s3://", "Expected a bucket in the URL"),
        ("s4://shop/raw", "Expected the URL of a store such as s3://"),
    ],
)
def test_a_root_that_is_not_there_is_named(bucket, root, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        make_source("image_folder", root=root.format(bucket=bucket))


def test_a_store_that_does_not_answer_is_not_the_photos_fault(bucket, monkeypatch):
    photo = FilePhoto(photo_id="1.jpg", label=None, root=f"s3://{bucket}", path="1.jpg")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match=r"NoCredentialsError.*AWS_ACCESS_KEY_ID"):
        read_photos([photo])
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.parametrize(("code", "photos_fault"), [("AccessDenied", True), ("ExpiredToken", False)])
def test_a_denied_object_is_one_photo_and_an_expired_key_is_all(s3, code, photos_fault):
    error = translate_boto_error(ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject"))
    assert isinstance(error, PermissionError)
    if photos_fault:
        assert _of_file(error, root="s3://shop").strerror == "Permission denied"
    else:
        with pytest.raises(RemoteError, match="received PermissionError: no"):
            _of_file(error, root="s3://shop")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r"pip install 'aisle\[s3\]'"):
        make_source("image_folder", root="s3://shop/raw")
