"""Brings the files of the repository that pages link to into the built site.

A page links to `../benchmarks/results/speed.md` or to `../configs/digits.py`. Such a link leads to
the file in a clone and on GitHub. MkDocs knows no file outside `docs/`, so these hooks hand it the
ones that are linked: Markdown and pictures as they are, all else as a page that shows the text.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

_LINK = re.compile(r"(\]\()([^)#\s:]+)")
_AS_THEY_ARE = {".md", ".png"}


def on_files(files, config):
  """Adds the linked files."""
  root = pathlib.Path(config.config_file_path).parent
  for page in list(files.documentation_pages()):
    for _, target in _LINK.findall(page.content_string):
      path = _outside(page, target)
      if path and (root / path).is_file() and not files.get_file_from_path(_place(path)):
        files.append(_file(root, path, config))
  return files


def on_page_markdown(markdown, page, config, files):
  """Points the links at these files' places in the site."""

  def moved(match):
    path = _outside(page.file, match[2])
    if not path or not files.get_file_from_path(_place(path)):
      return match[0]  # MkDocs tells what is wrong with it
    return match[1] + posixpath.relpath(_place(path), posixpath.dirname(page.file.src_uri) or ".")

  return _LINK.sub(moved, markdown)


def _outside(page, target):
  """The path from the root of the repository that a link out of `docs/` leads to, or None."""
  path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.src_uri), target))
  return None if path.startswith(("docs/", "..")) else path


def _place(path):
  """Where a file of the repository stands among the site's sources."""
  return path if pathlib.PurePath(path).suffix in _AS_THEY_ARE else f"{path}.md"


def _file(root, path, config):
  if _place(path) == path:
    return File(path, str(root), config.site_dir, config.use_directory_urls)
  language = pathlib.PurePath(path).suffix.removeprefix(".")
  text = (root / path).read_text()
  return File.generated(
    config, _place(path), content=f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"
  )
