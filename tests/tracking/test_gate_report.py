"""The report as JSON and as one page."""

import re
from html.parser import HTMLParser

import pytest

from tracking.gates.page import render_report
from tracking.gates.report import GateAnswer, GateReport

REPORT = GateReport(
    challenger="2",
    champion="1",
    model="product-recognizer-tiny",
    at="2026-11-25T12:00:00+00:00",
    answers=(
        GateAnswer(
            gate="error",
            outcome="fail",
            sentence="worse than <b>before</b> & more",
            details=("left out 3",),
            numbers={"difference": 0.02, "low": -0.02, "high": 0.06, "limit": 0.005, "confidence": 0.95},
            rows=({"class": "<script>x</script>", "photos": 30, "error": 0.5},),
        ),
        GateAnswer(
            gate="removed_classes", outcome="pass", sentence="gone", names={"removed": ("corn", "a&b")}
        ),
        GateAnswer(gate="approval", outcome="not applicable", sentence="nobody has to", numbers={"n": None}),
    ),
)


def test_a_report_comes_back_from_json_as_it_was() -> None:
    again = GateReport.from_json(REPORT.to_json())
    assert again == REPORT
    assert again.digest == REPORT.digest
    assert (again.passed, again.answer("error").outcome) == (False, "fail")
    with pytest.raises(KeyError, match="removed_classes"):
        REPORT.answer("removed")


@pytest.mark.parametrize("text", ["{", "[]", '{"format_version": 2, "answers": []}', '{"format_version": 1}'])
def test_another_text_is_refused_with_what_to_run(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"format version 1, received another text \(.*run `aisle gate` again"
    ):
        GateReport.from_json(text)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_beside_it_and_escapes_what_came_from_outside() -> None:
    html = render_report(REPORT)
    page = _Page()
    page.feed(html)
    assert not [tag for tag, attrs in page.tags if tag in ("script", "link", "img") or "src" in attrs]
    assert "worse than <b>before</b> & more" in page.text
    assert "<script>x</script>" in page.text
    for words in ("refused by 1 gate", "left out 3", "removed (2)", "a&b", "became significantly worse"):
        assert words in page.text
    assert not re.search(r"https?://", html)


def test_the_interval_is_drawn_to_scale() -> None:
    """From -.02 to .06 on 320 pixels: 0 at a quarter, the difference in the middle."""
    page = _Page()
    page.feed(render_report(REPORT))
    drawn = {attrs["class"]: attrs for tag, attrs in page.tags if tag == "line"}
    assert (drawn["interval"]["x1"], drawn["interval"]["x2"]) == ("10.0", "330.0")
    assert drawn["zero"]["x1"] == "90.0"
    assert drawn["limit"]["x1"] == "110.0"
    assert [attrs["cx"] for tag, attrs in page.tags if tag == "circle"] == ["170.0"]
