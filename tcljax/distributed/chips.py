"""Published figures of the chips that runs are planned for."""

import dataclasses

_GIB, _TERA, _GIGA = 2**30, 1e12, 1e9


@dataclasses.dataclass(frozen=True)
class Chip:
  """What one chip has and does at best, by its maker's figures.

  Attributes:
    name: as people say it.
    memory: bytes that arrays may take.
    operations: floating-point operations a second, of dense matrix products in bfloat16, which is
      also how TPUs multiply float32 unless told otherwise; GPUs then reach half of it.
    bandwidth: bytes a second between memory and chip.
    links: bytes a second between this chip and others, in one direction.
  """

  name: str
  memory: int
  operations: float
  bandwidth: float
  links: float


# By `jax.Device.device_kind`. From the pages v5e, v5p and v6e of cloud.google.com/tpu/docs and the
# data sheet of the H100 SXM, where links are given for both directions together. Of a GPU's memory
# JAX takes three quarters, unless told otherwise.
_CHIPS = {
  "TPU v5 lite": Chip("TPU v5e", 16 * _GIB, 197 * _TERA, 819 * _GIGA, 200 * _GIGA),
  "TPU v5": Chip("TPU v5p", 95 * _GIB, 459 * _TERA, 2765 * _GIGA, 600 * _GIGA),
  "TPU v6 lite": Chip("TPU v6e", 32 * _GIB, 918 * _TERA, 1638 * _GIGA, 400 * _GIGA),
  "NVIDIA H100 80GB HBM3": Chip("H100", 79 * _GIB * 3 // 4, 989 * _TERA, 3352 * _GIGA, 450 * _GIGA),
}


def of_kind(device_kind: str) -> Chip | None:
  """The chip that JAX calls so; None of others."""
  return _CHIPS.get(device_kind)
