"""The configs that come with tcljax, by their names."""

import pathlib

import tcljax


def shipped() -> dict[str, pathlib.Path]:
  """The config files by their names; in a clone they lie beside the package, installed within."""
  package = pathlib.Path(tcljax.__file__).parent
  inside, beside = package / "configs", package.parent / "configs"
  folder = inside if inside.is_dir() else beside
  return {path.stem: path for path in sorted(folder.glob("*.py"))}


def find_config(given: str) -> str:
  """The path of a config file, and after a colon its variants.

  Args:
    given: such a path, or the name of a config that comes with tcljax in its place.

  Raises:
    ValueError: if it is neither; the message has the names.
  """
  path, colon, variants = given.partition(":")
  if pathlib.Path(path).is_file():
    return given
  files = shipped()
  if path not in files:
    raise ValueError(f"--config={path} is no file; the configs by name are {', '.join(files)}")
  return f"{files[path]}{colon}{variants}"
