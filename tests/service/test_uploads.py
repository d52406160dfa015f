"""Requests that are not quite what /predict expects: each gets its photos answered, or a sentence."""

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from tests.tracking.tiny_bundle import draw_photo

JPEG = draw_photo(7)
END = b"--B--\r\n"


def _part(disposition: str, data: bytes = JPEG) -> bytes:
    header = f"Content-Disposition: form-data; {disposition}\r\nContent-Type: image/jpeg"
    return b"--B\r\n" + header.encode() + b"\r\n\r\n" + data + b"\r\n"


def _post(client: TestClient, body: bytes, kind: str = "multipart/form-data; boundary=B") -> Response:
    return client.post("/predict", content=body, headers={"Content-Type": kind})


def _file(reply: Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["results"][0]["file"])


PHOTO = _part('name="photos"; filename="a.jpg"')


def test_a_photo_without_a_file_name_is_answered_byte_for_byte(client: TestClient) -> None:
    named = _post(client, PHOTO + END).json()["results"][0]["predictions"]
    result = _post(client, _part('name="photos"') + END).json()["results"][0]
    assert (result["file"], result["predictions"]) == ("photo 1", named)


def test_a_path_in_place_of_a_file_says_how_to_send_the_file(client: TestClient) -> None:
    reply = _post(client, _part('name="photos"', b"photo.jpg") + END)
    assert (reply.status_code, reply.json()["error"]) == (415, "not_a_photo")
    assert "with the @" in reply.json()["hint"]


@pytest.mark.parametrize(
    "body",
    [
        PHOTO,
        PHOTO + PHOTO,
        PHOTO + PHOTO[:-100],  # the first photo is whole
        PHOTO + b"--B",
        PHOTO + b"--B\r\n",
        PHOTO + END[:-3],  # a hyphen short
        PHOTO[:30],
        b"--B",
        b"",
    ],
)
def test_a_body_without_its_end_is_refused_as_a_whole(client: TestClient, body: bytes) -> None:
    reply = _post(client, body)
    assert (reply.status_code, reply.json()["error"]) == (400, "incomplete_body")
    assert "cut off" in reply.json()["message"]


def test_a_body_may_end_without_a_line_break_or_with_an_epilogue(client: TestClient) -> None:
    for end in (b"--B--", b"--B--\r\nepilogue"):
        assert _post(client, PHOTO + end).status_code == 200


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("file", "multipart field photos only, received 'file'"),
        ("photo", "Did you mean photos?"),
        ("Photos", "Did you mean photos?"),
        ("photos[]", "Did you mean photos?"),
        ("top_k", "/predict?top_k=3"),
    ],
)
def test_another_field_is_refused_even_beside_a_photo(client: TestClient, field: str, words: str) -> None:
    for body in (_part(f'name="{field}"; filename="a.jpg"'), PHOTO + _part(f'name="{field}"', b"3")):
        reply = _post(client, body + END)
        assert (reply.status_code, reply.json()["error"]) == (422, "unknown_field")
        assert words in f"{reply.json()['message']} {reply.json()['hint']}"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"photos": []}'),
        ("image/jpeg", JPEG),
        ("application/x-www-form-urlencoded", b"photos=%40a.jpg"),
        ("multipart/mixed; boundary=B", PHOTO + END),
    ],
)
def test_another_content_type_is_refused_with_the_one_to_send(
    client: TestClient, kind: str, body: bytes
) -> None:
    reply = _post(client, body, kind)
    assert (reply.status_code, reply.json()["error"]) == (415, "unsupported_media_type")
    assert kind in reply.json()["message"]
    assert "curl -F photos=@photo.jpg" in reply.json()["hint"]


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B", "Content-Encoding": "gzip"}
    reply = client.post("/predict", content=b"\x1f\x8b", headers=headers)
    assert (reply.status_code, reply.json()["error"]) == (415, "unsupported_media_type")
    assert "gzip" in reply.json()["message"]


@pytest.mark.parametrize("body", [None, END])
def test_a_request_without_a_photo_says_how_to_send_one(client: TestClient, body: bytes | None) -> None:
    reply = client.post("/predict") if body is None else _post(client, body)
    assert (reply.status_code, reply.json()["error"]) == (400, "no_photo")
    assert "curl -F photos=@photo.jpg" in reply.json()["hint"]


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("multipart/form-data", PHOTO + END, "boundary"),
        ("multipart/form-data; boundary=B", b"nothing of the kind", "boundary"),
        ("multipart/form-data; boundary=B", _part('filename="a.jpg"') + END, '"name" must be provided'),
        (
            "multipart/form-data; boundary=B",
            _part(f'name="photos"; filename="{"x" * 10_000}"') + END,
            "header size",
        ),
    ],
)
def test_a_broken_multipart_body_says_what_is_wrong(
    client: TestClient, kind: str, body: bytes, words: str
) -> None:
    reply = _post(client, body, kind)
    assert (reply.status_code, reply.json()["error"]) == (400, "invalid_multipart")
    assert words in reply.json()["message"]


@pytest.mark.parametrize(
    ("disposition", "shown"),
    [
        ('filename="../../etc/milk.jpg"', "../../etc/milk.jpg"),
        ('filename="Süßmilch 牛奶.jpg"', "Süßmilch 牛奶.jpg"),
        ("filename*=UTF-8''%E7%89%9B.jpg", "牛.jpg"),
        ("filename*=nonsense''%E7.jpg", "ç.jpg"),
        ("filename*=unicode_escape''%5Cud800.jpg", "\ufffd.jpg"),
        ('filename="a\x1b[31m\u202egpj.exe"', "a\ufffd[31m\ufffdgpj.exe"),
        (f'filename="{"x" * 4000}"', "x" * 197 + "..."),
    ],
)
def test_any_file_name_is_shown_and_none_is_trusted(client: TestClient, disposition: str, shown: str) -> None:
    assert _file(_post(client, _part(f'name="photos"; {disposition}') + END)) == shown


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("topk=1", "Did you mean top_k?"),
        ("topK=1", "Did you mean top_k?"),
        ("top_k=1&TOP-K=2", "Did you mean top_k?"),
        ("threshold=1", "Expected the query parameter top_k at /predict, received 'threshold'"),
        ("top_k=1&top_k=2", "top_k once"),
        ("=", "received ''"),
    ],
)
def test_an_unknown_query_parameter_is_refused(client: TestClient, query: str, words: str) -> None:
    reply = client.post(f"/predict?{query}", files={"photos": ("a.jpg", JPEG)})
    assert reply.status_code == 422
    assert words in f"{reply.json()['message']} {reply.json().get('hint')}"


def test_the_model_takes_no_query_and_health_ignores_a_probes(client: TestClient) -> None:
    assert client.get("/model?version=3").json()["error"] == "unknown_parameter"
    assert client.get("/health/live?probe=1").status_code == 200
