"""What a user may give in place of a path, for the tests of each door that takes one."""


def no_paths(folder):
  """What is no path, or none that a file can have, with what is told of it."""
  (folder / "loop").symlink_to("loop")
  (folder / "there").symlink_to("back")
  (folder / "back").symlink_to("there")
  return [
    (None, "=None must be a path, such as"),
    (3, "=3 must be a path"),
    (b"runs", "=b'runs' must be a path"),
    ([folder], " is of type list and must be a path"),
    ("", "='' is empty: give a path"),
    ("a\0b", r"='a\\x00b' is a path that no file can have: .*embedded null"),
    ("a\ud800", r"='a\\ud800' is a path that no file can have: .*surrogates not allowed"),
    (folder / "loop", "='.*loop' is or goes through a link that leads back to itself: remove"),
    (str(folder / "loop" / "x"), "='.*loop/x' is or goes through a link that leads back"),
    (folder / "there", "='.*there' is or goes through a link"),
  ]
