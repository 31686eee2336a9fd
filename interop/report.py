"""Opens the pages that --html writes in a browser.

    python3 interop/report.py [--quantwright QUANTWRIGHT] [--chromium CHROMIUM] [--keep FOLDER]

The pages of kl, bench and compare, of models made from tiny-llama2, in headless Chromium: nothing is said
on the console, every number of the JSON is in the page, each column sorts both ways, and at a width of 400
the page does not scroll sideways. With --keep the pages stay there, with pictures of each: light, dark,
400 wide, and as it is printed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import environment

FIXTURES = environment.ROOT / "fixtures"
TYPES = ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "iq4_xs", "q3_k_m", "q2_k"]
NARROW = 400

# Sorts by each column, up and down, and notes whether the rows came in order; `all` stays at the end.
SORTS = """<script>
const wrong = [];
for (const table of document.querySelectorAll("table.sortable"))
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    for (const sign of [1, -1]) {
      head.querySelector("button").click();
      const cells = [...table.tBodies[0].rows].map((row) => row.cells[i]);
      const values = cells.filter((cell) => cell.dataset.value).map((cell) => Number(cell.dataset.value));
      const expected = [...values].sort((a, b) => sign * (a - b));
      const heading = head.getAttribute("aria-sort");
      if (values.some((value, at) => value !== expected[at]) || heading !== (sign > 0 ? "ascending" : "descending"))
        wrong.push(head.textContent + " " + heading);
    }
  });
document.body.dataset.unsorted = wrong.join(", ");
document.body.dataset.tables = document.querySelectorAll("table.sortable").length;
</script>"""

# The window of a browser has a least width; a frame has none.
FRAME = """<!DOCTYPE html><body style="margin:0"><iframe id="page" style="border:0;width:{width}px;height:{height}px"
srcdoc="{page}"></iframe><script>
document.getElementById("page").onload = ({{ target }}) => {{
  const {{ scrollWidth, clientWidth }} = target.contentDocument.documentElement;
  document.body.dataset.overflow = scrollWidth - clientWidth;
}};
</script>"""


class Attributes(HTMLParser):
    """The values of cells, and what the scripts noted."""

    def __init__(self, text):
        super().__init__()
        self.values, self.body = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "body" and not self.body:
            self.body = attributes
        if "data-value" in attributes:
            self.values.append(attributes["data-value"])


class Browser:
    def __init__(self, program, scratch):
        self.program, self.scratch, self.count = program, scratch, 0

    def run(self, page, *options, width=1200, height=1600):
        """What it prints for a page, and what its console says."""
        self.count += 1
        command = [
            self.program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--enable-logging=stderr", f"--window-size={width},{height}",
            f"--user-data-dir={self.scratch / f'profile-{self.count}'}", "--virtual-time-budget=2000",
            *options, page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def dump(self, name, text, **size):
        page = self.scratch / name
        page.write_text(text)
        dom, console = self.run(page, "--dump-dom", **size)
        return Attributes(dom), console


def numbers(value):
    """All numbers of a JSON value, as it is written."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, Literal) else []


class Literal(str):
    """A number of the JSON, unread."""


def check(browser, page, figures):
    text, problems = page.read_text(), []
    found, console = browser.dump(f"sorted-{page.name}", text + SORTS)
    problems += console
    if found.body.get("data-tables", "0") == "0" or found.body.get("data-unsorted"):
        problems.append(f"not sorted: {found.body}")
    shown = set(found.values)
    problems += [f"{number} is not in the page" for number in figures if number not in shown]
    frame = FRAME.format(page=escape(text, quote=True), width=NARROW, height=1600)
    found, console = browser.dump(f"narrow-{page.name}", frame)
    problems += console
    if found.body.get("data-overflow") != "0":
        problems.append(f"{NARROW} wide it scrolls sideways: {found.body}")
    return problems


def pictures(browser, page, folder):
    picture = lambda look: f"--screenshot={folder / f'{page.stem}-{look}.png'}"
    schemes = {"light": "1", "dark": "0"}
    for look, scheme in schemes.items():
        browser.run(page, picture(look), f"--blink-settings=preferredColorScheme={scheme}")
    frame = browser.scratch / f"narrow-{page.name}"
    browser.run(frame, picture("narrow"), width=500)
    browser.run(page, f"--print-to-pdf={folder / f'{page.stem}.pdf'}", "--no-pdf-header-footer")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quantwright")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if not args.chromium:
        sys.exit("there is no chromium: install it, or give its path with --chromium")
    binary = environment.quantwright(args.quantwright)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = args.keep.resolve() if args.keep else scratch / "pages"
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = FIXTURES / "tiny-llama2"
        models = [scratch / f"tiny-llama2-{ty}.gguf" for ty in TYPES]
        for model, ty in zip(models, TYPES):
            subprocess.run([binary, "convert", checkpoint, "-q", "-t", ty, "-o", model], check=True)
        text = FIXTURES / "text" / "test.txt"
        runs = {
            "kl": ["kl", models[0], *models, "-f", text, "--ctx", "256", "--chunks", "8"],
            "bench": ["bench", *models, "-p", "64", "-n", "16", "-r", "2"],
            "compare": ["compare", checkpoint, *models[4:5]],
            "compare-many": ["compare", checkpoint, *models[1:]],
        }
        browser = Browser(args.chromium, scratch)
        failed = False
        for name, run in runs.items():
            page = folder / f"{name}.html"
            done = subprocess.run([binary, *run, "--json", "--html", page], capture_output=True, check=True)
            found = json.loads(done.stdout, parse_float=Literal, parse_int=Literal)
            if name == "compare":
                found = [found]
            if name.startswith("compare"):
                # Shapes are text in the page, and no figure; the count of all values is none of it.
                found = [[{**t, "shape": []} for t in one["tensors"]] + [{**one["total"], "values": None}]
                         for one in found]
            figures = numbers(found)
            problems = check(browser, page, figures)
            print(f"{name}: {len(figures)} numbers, {page.stat().st_size} bytes, {len(problems)} problems")
            for problem in problems:
                print(f"  {problem}")
            failed |= bool(problems) or not figures
            if args.keep:
                pictures(browser, page, folder)
    sys.exit(failed)


if __name__ == "__main__":
    main()
