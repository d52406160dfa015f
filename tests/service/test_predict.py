import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recognition.bundle import digest
from recognition.recognizer import Canvases, Recognizer
from tests.tracking.tiny_bundle import CLASS_NAMES, draw_photo

Upload = tuple[str, tuple[str, bytes]]


def _upload(data: bytes, name: str = "a.jpg") -> Upload:
    return ("photos", (name, data))


def _huge_png(side: int) -> bytes:
    """A black side x side PNG of a few kilobytes: compressed zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    row = b"\0" * (side // 8 + 1)
    pixels = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_photos_are_answered_in_their_order_as_the_recognizer_answers_them(
    client: TestClient, recognizer: Recognizer, bundle: Path
) -> None:
    photos = [draw_photo(1), draw_photo(2, kind="PNG")]
    reply = client.post(
        "/predict?top_k=3", files=[_upload(photos[0], "one.jpg"), _upload(photos[1], "two.png")]
    )
    assert reply.status_code == 200
    body = reply.json()
    assert body["model"] == {"name": "tiny", "version": digest(bundle)[:12]}
    assert body["took_ms"] > 0
    assert [result["file"] for result in body["results"]] == ["one.jpg", "two.png"]
    for photo, result in zip(photos, body["results"], strict=True):
        expected = recognizer.predict([photo], top_k=3)[0].predictions
        assert [item["sku"] for item in result["predictions"]] == [item.name for item in expected]
        assert [item["class_index"] for item in result["predictions"]] == [i.class_index for i in expected]
        probabilities = [item["probability"] for item in result["predictions"]]
        assert probabilities == pytest.approx([item.probability for item in expected], abs=1e-5)


def test_sixty_four_photos_at_once_get_the_answers_they_get_alone(
    client: TestClient, recognizer: Recognizer
) -> None:
    photos = [draw_photo(seed, size=(40 + seed, 60)) for seed in range(64)]

    def ask(photo: bytes) -> list[float]:
        reply = client.post("/predict", params={"top_k": 6}, files=[_upload(photo)])
        found = reply.json()["results"][0]["predictions"]
        return [item["probability"] for item in sorted(found, key=lambda item: int(item["class_index"]))]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, photos))
    for photo, answer in zip(photos, answers, strict=True):
        alone = recognizer.predict([photo], top_k=6)[0].predictions
        expected = [item.probability for item in sorted(alone, key=lambda item: item.class_index)]
        assert answer == pytest.approx(expected, abs=1e-5)


def test_a_photo_larger_than_the_store_keeps_gets_the_answer_of_its_stored_form(
    client: TestClient, recognizer: Recognizer
) -> None:
    large = draw_photo(5, size=(900, 700))
    found = client.post("/predict", files=[_upload(large)]).json()["results"][0]["predictions"][0]
    expected = recognizer.predict([large])[0].predictions[0]
    assert (found["sku"], found["probability"]) == (
        expected.name,
        pytest.approx(expected.probability, abs=1e-5),
    )


def test_five_skus_are_answered_unless_the_request_says_how_many(client: TestClient) -> None:
    def num_skus(query: str) -> int:
        reply = client.post(f"/predict{query}", files=[_upload(draw_photo(1))])
        return len(reply.json()["results"][0]["predictions"])

    assert (num_skus(""), num_skus("?top_k=1"), num_skus("?top_k=6")) == (5, 1, len(CLASS_NAMES))


JPEG = draw_photo(3, size=(300, 300))


@pytest.mark.parametrize(
    ("data", "name", "status", "error"),
    [
        (b"", "empty.jpg", 400, "empty"),
        (b"just a note, no photo at all\n" * 20, "note.jpg", 415, "not_a_photo"),
        (b"%PDF-1.7\n" + b"0" * 500, "page.pdf", 415, None),
        (JPEG[: len(JPEG) // 2], "half.jpg", 422, "corrupt"),
        (_huge_png(20_000), "huge.png", 413, "too_many_pixels"),
        (JPEG + b"\0" * 1024 * 1024, "heavy.jpg", 413, "too_many_bytes"),
    ],
)
def test_a_bad_photo_is_refused_in_words_that_name_the_file(
    client: TestClient, data: bytes, name: str, status: int, error: str | None
) -> None:
    reply = client.post("/predict", files=[_upload(data, name)])
    body = reply.json()
    assert (reply.status_code, body["error"]) == (status, error or body["error"])
    assert body["message"].startswith(f"{name}: ")
    assert body["results"][0]["error"]["error"] == body["error"]


def test_a_bad_photo_costs_only_its_own_answer(client: TestClient, recognizer: Recognizer) -> None:
    files = [
        _upload(JPEG, "a.jpg"),
        _upload(b"", "b.jpg"),
        _upload(b"a note, no photo", "a.jpg"),
        _upload(JPEG),
    ]
    reply = client.post("/predict?top_k=1", files=files)
    results = reply.json()["results"]
    assert reply.status_code == 200
    assert [(result["index"], result["file"]) for result in results] == list(
        enumerate(["a.jpg", "b.jpg", "a.jpg", "a.jpg"])
    )
    assert [result.get("error", {}).get("error") for result in results] == [
        None,
        "empty",
        "not_a_photo",
        None,
    ]
    best = recognizer.predict([JPEG])[0].predictions[0].name
    assert [results[index]["predictions"][0]["sku"] for index in (0, 3)] == [best, best]


def test_where_no_photo_is_answered_the_first_ones_error_is_the_requests(client: TestClient) -> None:
    reply = client.post("/predict", files=[_upload(JPEG[:2000], "half.jpg"), _upload(b"", "empty.jpg")])
    body = reply.json()
    assert (reply.status_code, body["error"]) == (422, "corrupt")
    assert body["message"].startswith("half.jpg: ")
    assert [result["error"]["error"] for result in body["results"]] == ["corrupt", "empty"]


def test_a_defect_on_one_photo_is_that_photos_alone_and_logged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(self: Recognizer, data: bytes) -> Canvases:
        if data == b"strange":
            raise RuntimeError("a defect")
        return sound(self, data)

    sound = Recognizer.prepare
    monkeypatch.setattr(Recognizer, "prepare", prepare)
    reply = client.post("/predict", files=[_upload(b"strange", "odd.jpg"), _upload(JPEG)])
    assert (reply.status_code, reply.json()["results"][0]["error"]["error"]) == (200, "internal_error")
    assert "a defect" in caplog.text
    assert client.post("/predict", files=[_upload(b"strange")]).status_code == 500


def test_the_huge_png_is_a_few_kilobytes() -> None:
    assert len(_huge_png(20_000)) < 100_000


@pytest.mark.parametrize("top_k", ["0", "-1", "7", "many"])
def test_a_wrong_top_k_names_it(client: TestClient, top_k: str) -> None:
    reply = client.post(f"/predict?top_k={top_k}", files=[_upload(JPEG)])
    assert reply.status_code == 422
    assert "top_k" in reply.json()["message"]
    assert top_k in reply.json()["message"]


def test_more_photos_than_allowed_are_refused(client: TestClient) -> None:
    reply = client.post("/predict", files=[_upload(JPEG)] * 5)
    assert (reply.status_code, reply.json()["error"]) == (413, "too_many_photos")
    assert "4" in reply.json()["message"]


def test_a_request_that_announces_too_much_is_refused_before_it_is_read(client: TestClient) -> None:
    reply = client.post("/predict", content=b"x", headers={"Content-Length": str(3 * 1024 * 1024)})
    assert (reply.status_code, reply.json()["error"]) == (413, "request_too_large")


def test_a_request_that_hides_its_size_is_refused_while_it_arrives(client: TestClient) -> None:
    sent = []

    def body() -> object:
        yield b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
        for number in range(64):
            sent.append(number)
            yield b"\0" * 64 * 1024

    reply = client.post(
        "/predict",
        content=body(),  # type: ignore[arg-type]
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert (reply.status_code, reply.json()["error"]) == (413, "request_too_large")
