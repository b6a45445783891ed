"""The console over many retained tracks, in a real Chromium: when it is painted, and how soon a slider is followed.

python -m tests.benchmark.console_retained 1000000
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from model.artifact import fixed_network, new_artifact
from ops.local.services import start_services
from ops.thresholds_admin import ThresholdsAdmin
from streamer.settings import load_settings
from tests.benchmark.preview_retained import VOCABULARY, fill
from tests.browser.stage import ConsoleProcess
from tests.references import add_reference, random_rows

CHROMIUM = "/usr/bin/chromium"
PAINTS, MOVES = 5, 40
READ_TIMEOUT_MS = 600_000
FOLLOWED = """async places => {
  const slider = document.querySelector('#slider'), took = [];
  for (const place of places) {
    const shown = document.querySelector('#exact').value, began = performance.now();
    slider.value = place;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    while (document.querySelector('#exact').value == shown && performance.now() - began < 5000)
      await new Promise(done => requestAnimationFrame(done));
    took.push(performance.now() - began);
  }
  return took;
}"""


def main(tracks: int) -> None:
    """Fill a topic, open the page, move the slider."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = new_artifact(
            fixed_network(VOCABULARY), VOCABULARY, dict.fromkeys(VOCABULARY.tags, 0.9), folder / "models"
        )
        add_reference(folder / "models" / model, random_rows(4000, VOCABULARY.n_inputs, seed=1))
        with start_services(data_dir=folder / "services", die_with_parent=True) as services:
            fields: dict[str, Any] = {
                "kafka_bootstrap": services.kafka_bootstrap, "redis_url": services.redis_url,
                "models_dir": folder / "models", "state_dir": folder / "state",
            }  # fmt: skip
            settings = load_settings(**fields)
            asyncio.run(fill(settings, model, tracks))
            ThresholdsAdmin(settings, "bench").promote(model, "bench")
            console = ConsoleProcess(folder / "console", {**fields, "cache_dir": folder / "cache"})
            console.start()
            try:
                console.wait_ready()
                look(console.url, tracks)
            finally:
                console.kill()


def look(url: str, tracks: int) -> None:
    """What a person sees, timed in the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        paints = [_first_paint_ms(page, url)]
        began_s = time.monotonic()
        page.wait_for_function(
            "tracks => (document.querySelector('#region-tag')?.textContent ?? '').includes(tracks + ' tracks')",
            arg=f"{tracks:,}", timeout=READ_TIMEOUT_MS,
        )  # fmt: skip
        read_s = time.monotonic() - began_s
        paints += [_first_paint_ms(page, url) for _ in range(PAINTS)]
        page.wait_for_selector("#decided-here:not(:text-is('–'))")
        places = np.random.default_rng(1).permutation(np.linspace(200, 900, MOVES).astype(int)).tolist()
        took = page.evaluate(FOLLOWED, places)
        browser.close()
    print(
        f"{tracks:,} tracks: first paint {paints[0]:.0f} ms while they are read (for {read_s:.0f} s), then "
        f"{max(paints[1:]):.0f} ms at most; the page follows a slider after {np.median(took):.0f} ms, "
        f"at most {max(took):.0f} ms, of {MOVES} moves"
    )


def _first_paint_ms(page: Any, url: str) -> float:
    page.goto(f"{url}/thresholds?tag={VOCABULARY.tags[3]}")
    page.wait_for_selector("body[data-connected=yes]")
    return page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")


if __name__ == "__main__":
    main(int(sys.argv[1]))
