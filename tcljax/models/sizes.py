"""Which image sizes a network can take."""

from typing import Protocol


class _Halving(Protocol):
  """A network that halves the image a number of times."""

  def smallest_image(self) -> int: ...


def check_images(model: _Halving, shape: tuple[int, ...]) -> None:
  """Raises ValueError unless this is [B, H, W, C], of images that outlast the model's halvings."""
  if len(shape) != 4:
    raise ValueError(f"images have shape {shape} and must be a batch of them, [B, H, W, C]")
  check_image_size(model, shape[1:3])


def check_image_size(model: _Halving, size: tuple[int, ...]) -> None:
  """Raises ValueError if images of this height and width vanish in the model's halvings."""
  least = model.smallest_image()
  if min(size) < least:
    raise ValueError(
      f"image size {'x'.join(map(str, size))} is too small for the model's "
      f"{least.bit_length() - 1} halvings: it takes at least {least}x{least}; drop stages or "
      "enlarge the images"
    )
