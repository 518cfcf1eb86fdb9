"""Pages in a browser: what it complains of, and how wide they are."""

import pathlib
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
# As large as a phone is wide. The page itself can run no script, the one around it measures it.
_AROUND = """<!doctype html><iframe src="{page}" style="width:{width}px;height:900px;border:0"
onload="const inner = this.contentDocument;
inner.querySelectorAll('details').forEach(one => one.open = true);
document.title = inner.documentElement.scrollWidth"></iframe>"""


def opened(page, folder, *flags):
  """What the browser says when it opens a page, and how: its document, and its log."""
  done = subprocess.run(
    [
      *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
      *("--virtual-time-budget=2000", f"--user-data-dir={folder / 'browser'}", *flags),
      pathlib.Path(page).as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def check_page(page, folder):
  """A page is shown, without a complaint, and a phone shows it without moving it sideways."""
  picture = folder / "page.png"
  _, complaints = opened(page, folder, f"--screenshot={picture}", "--window-size=1000,2000")
  assert complaints == [] and picture.stat().st_size > 20_000
  around = folder / "around.html"
  around.write_text(_AROUND.format(page=pathlib.Path(page).as_uri(), width=380))
  document, _ = opened(around, folder, "--dump-dom", "--allow-file-access-from-files")
  assert int(re.search(r"<title>(\d+)</title>", document)[1]) <= 380
