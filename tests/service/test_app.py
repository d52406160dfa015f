import threading
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from recognition.bundle import digest
from recognition.recognizer import Recognizer
from service.app import create_app, serve
from service.batching import Batcher, Overloaded
from service.settings import Settings
from tests.service.conftest import wait_until_ready
from tests.tracking.tiny_bundle import draw_photo, make_bundle
from tracking.registry.versions import MissingAlias


def test_model_describes_what_is_served(client: TestClient, bundle: Path) -> None:
    assert client.get("/model").json() == {
        "name": "tiny",
        "version": digest(bundle)[:12],
        "aliases": [],
        "digest": digest(bundle),
        "num_classes": 6,
        "members": ["member_1", "member_2"],
        "initial_weights": {
            name: {"source": "random", "model": "", "licence": "", "sha256": ""}
            for name in ("member_1", "member_2")
        },
        "merge": "probabilities",
        "views": ["center", "flip"],
        "precision": "float32",
    }


def test_health_answers_when_alive_and_when_ready(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "alive"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_before_the_model_is_loaded_the_service_lives_but_is_not_ready(bundle: Path) -> None:
    waiting = TestClient(create_app(Settings(bundle=bundle)))  # not entered: nothing is loaded
    assert waiting.get("/health/live").status_code == 200
    for reply in (
        waiting.get("/health/ready"),
        waiting.get("/model"),
        waiting.post("/predict", files={"photos": draw_photo(1)}),
    ):
        assert (reply.status_code, reply.json()["error"]) == (503, "not_ready")
        assert int(reply.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [("GET", "/nothing", 404, "not_found"), ("GET", "/predict", 405, "method_not_allowed")],
)
def test_errors_of_the_framework_have_the_same_shape(
    client: TestClient, method: str, path: str, status: int, error: str
) -> None:
    reply = client.request(method, path)
    assert (reply.status_code, reply.json()["error"]) == (status, error)
    assert path in reply.json()["message"]


def test_the_documentation_names_every_answer_of_predict(client: TestClient) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    assert set(responses) == {"200", "400", "408", "413", "415", "422", "500", "503"}


def test_the_documentation_shows_how_to_upload_and_both_kinds_of_results(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert body["properties"]["photos"]["items"] == {"type": "string", "format": "binary"}
    kinds = document["components"]["schemas"]["PredictResponse"]["properties"]["results"]["items"]["anyOf"]
    assert [kind["$ref"].rpartition("/")[2] for kind in kinds] == ["PhotoAnswer", "PhotoRefusal"]


def test_a_champion_that_is_not_set_stops_the_start_with_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingAlias, match="run `dvc repro` to make one, then `aisle promote`"):
        serve(Settings(data="tiny"))


def test_a_service_without_anything_to_serve_says_what_to_set() -> None:
    with pytest.raises(ValueError, match="AISLE_DATA"):
        create_app(Settings())


def test_a_folder_that_is_no_bundle_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected a bundle"):
        create_app(Settings(bundle=tmp_path))


def test_broken_weights_end_the_service_with_their_reason(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "broken", seeds=(1,))
    weights = bundle / "members" / "member_1" / "weights.safetensors"
    weights.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="weights"):
        serve(Settings(bundle=bundle, port=0))


def test_settings_come_from_the_environment_and_unknown_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AISLE_TOP_K", "3")
    assert Settings().top_k == 3
    with pytest.raises(ValueError, match="colour"):
        Settings(colour="red")  # type: ignore[call-arg]


def test_an_error_belongs_to_its_own_photo_and_not_to_its_batch(recognizer: Recognizer) -> None:
    good = recognizer.prepare(draw_photo(1))
    wrong = (torch.zeros(2, 32, 32, dtype=torch.uint8),)  # two colours: no model takes it
    batcher = Batcher(recognizer, num_threads=1, max_batch=8, max_waiting=99)
    futures = [batcher.submit(photo, top_k=2) for photo in (good, wrong, good)]
    for thread in batcher._threads:
        thread.start()
    assert [future.exception(timeout=10) is None for future in futures] == [True, False, True]
    batcher.close()
    assert len(futures[2].result().predictions) == 2


def test_a_full_house_sends_requests_away_and_takes_them_again(bundle: Path) -> None:
    app = create_app(Settings(bundle=bundle, precision="float32", max_waiting=2, num_batchers=1))
    with TestClient(app) as client:
        wait_until_ready(client)
        held: Batcher = app.state.model.batcher
        with held.admit(2):
            reply = client.post("/predict", files={"photos": draw_photo(1)})
        assert (reply.status_code, reply.json()["error"]) == (503, "busy")
        assert reply.headers["Retry-After"] == "1"
        assert client.post("/predict", files={"photos": draw_photo(1)}).status_code == 200


def test_admission_is_counted_over_threads(recognizer: Recognizer) -> None:
    batcher = Batcher(recognizer, num_threads=1, max_batch=1, max_waiting=3)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with batcher.admit(3):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    with pytest.raises(Overloaded, match="3 photos"), batcher.admit(1):
        pass
    leave.set()
    thread.join()
    with batcher.admit(3):
        pass
