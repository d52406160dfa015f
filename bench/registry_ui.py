"""MLflow's UI on a project of yours, in a real browser: what is in sight, and the clicks to a comparison.

    pip install playwright; apt-get install chromium
    aisle ui &
    python -m bench.registry_ui --address http://127.0.0.1:5000 --data synthetic --screenshots /tmp/looks

Opens the address that `aisle ui` prints, marks all pipelines and compares them; then all versions, from the
page of their model. Prints what was seen; screenshots are for people and stay out of git.
"""

import argparse
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tracking.experiment_view import VIEW_QUERY

SECONDS = 6
"""For the page to settle: it loads in many parts and says of none that it was the last."""
LINES = 4


def find_experiment(address: str, *, data: str) -> str:
    """MLflow's number of the data's experiment."""
    query = urllib.parse.urlencode({"experiment_name": f"aisle-{data}"})
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}") as answer:
        return str(json.load(answer)["experiment"]["experiment_id"])


class Looker:
    """A page that counts its clicks."""

    def __init__(self, page: Any, *, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.clicks = 0

    def open(self, url: str, *, name: str) -> None:
        """Go to an address, which is no click, and take a screenshot."""
        self.page.goto(url)
        self.settle(name)

    def click(self, place: Any, *, name: str) -> None:
        """Click, and take a screenshot."""
        place.click()
        self.clicks += 1
        self.settle(name)

    def settle(self, name: str) -> None:
        """Wait, then take a screenshot."""
        self.page.wait_for_timeout(1000 * SECONDS)
        self.page.screenshot(path=str(self.folder / f"{name}.png"))

    def texts(self, selector: str) -> list[str]:
        """What stands in all places that a selector finds."""
        return [text.strip().replace("\n", " ") for text in self.page.locator(selector).all_inner_texts()]


def look(looker: Looker, *, address: str, experiment: str, data: str) -> None:
    """Go the way of a person who compares recipes, and print what they see."""
    page = looker.page
    looker.open(f"{address}/#/experiments/{experiment}", name="1-as-mlflow-opens-it")
    print(f"without our address MLflow opens: {page.url.split('#')[-1]}")
    looker.open(f"{address}/#/experiments/{experiment}/runs?{VIEW_QUERY}", name="2-runs")
    headers = looker.texts(".ag-header-cell")
    rows = looker.texts(".ag-pinned-left-cols-container .ag-row") or looker.texts(".ag-row")
    print(f"columns: {', '.join(header for header in headers if header)}")
    print(f"rows: {len(rows)}; {'; '.join(rows[:LINES])} ...")
    looker.click(page.locator(".ag-header-cell [type=checkbox]").first, name="3-all-marked")
    looker.click(page.get_by_role("button", name="Compare").first, name="4-compared")
    print(f"after {looker.clicks} clicks: {looker.texts('h1, h2')[0]}")
    page.get_by_text("Metrics", exact=True).last.scroll_into_view_if_needed()
    looker.settle("5-metrics")
    looker.open(f"{address}/#/models/product-recognizer-{data}", name="6-versions")
    looker.clicks = 0
    looker.click(page.locator("label:has(input[type=checkbox])").first, name="7-versions-marked")
    looker.click(page.get_by_test_id("compareButton"), name="8-versions-compared")
    print(f"after {looker.clicks} clicks from the model's page: {looker.texts('h1, h2')[0]}")


def main() -> None:
    """Look, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--address", default="http://127.0.0.1:5000")
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--screenshots", type=Path, required=True)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]
    except ImportError:
        sys.exit("expected playwright to be installed, found none: pip install playwright")
    arguments.screenshots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as programs:
        browser = programs.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(60_000)
        experiment = find_experiment(arguments.address, data=arguments.data)
        looker = Looker(page, folder=arguments.screenshots)
        look(looker, address=arguments.address, experiment=experiment, data=arguments.data)
        browser.close()


if __name__ == "__main__":
    main()
