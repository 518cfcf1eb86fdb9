"""The share of the machine's matrix-product rate that convolutions and their gradients reach.

    python benchmarks/convolution_forms.py

Each 3x3 convolution, its gradient to the image, and both gradients in a loop, as
`jax.lax.conv_general_dilated` and as `tcljax.convolve`, which differ where a device's compiler has
a slow case. Operations are counted with those on padding, so that a way that leaves them out can
exceed 1. Wants an otherwise idle machine. Writes OUTPUT.json and .md.
"""

import functools
import sys

import jax
import jax.numpy as jnp
from ledger import Ledger, command_of, parser
from measuring import MATRIX, in_turns

import tcljax

# Height and width of the image, and the stride: VGG on 32x32 pixels ends with 4 and 2, ResNet-18
# for ImageNet on the same images with strided ones down to a single pixel.
_SHAPES = ((8, 1), (4, 1), (4, 2), (3, 1), (2, 1), (2, 2), (1, 1))
_LOOPED = ((8, 1), (8, 2))  # image and stride of the gradients in a loop
_LOOP = 2  # times, enough for the compiler to make one
_LOOP_ROUNDS = 3  # at most, as each takes lax half a minute
_WAYS = {"lax": jax.lax.conv_general_dilated, "tcljax": tcljax.convolve}


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "convolution_forms")
  flags.add_argument("--batch_size", type=int, default=16)
  flags.add_argument("--channels", type=int, default=512, help="of image and result")
  flags.add_argument("--rounds", type=int, default=20, help="of each, in turns")
  args = flags.parse_args(argv)
  if min(args.batch_size, args.channels, args.rounds) < 1:
    flags.error("--batch_size, --channels and --rounds must be at least 1")
  matrix = jnp.ones((MATRIX, MATRIX))
  product = functools.partial(jax.jit(jnp.matmul), matrix, matrix)
  ledger = Ledger(args.output, command_of("convolution_forms", flags, args), markdown)
  ledger.shared = {"batch_size": args.batch_size, "channels": args.channels}
  rows = [row for shape in _SHAPES for row in measure(*shape, args, product)]
  ledger.add(rows + [row for shape in _LOOPED for row in measure(*shape, args, product, _LOOP)])
  ledger.write()
  return 0


def measure(size, stride, args, product, loop=0):
  """Rows of a convolution and of its gradient to the image, or of both gradients in a loop."""
  image = jnp.ones((args.batch_size, size, size, args.channels))
  kernel = jnp.ones((3, 3, args.channels, args.channels))
  result = jnp.ones((args.batch_size, -(-size // stride), -(-size // stride), args.channels))
  operations = 2 * result.size * 9 * args.channels

  def convolution(way, image, kernel):
    return way(
      image, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  def gradient(operand, way, image, kernel, result):
    return jax.vjp(functools.partial(convolution, way), image, kernel)[1](result)[operand]

  def looped(operand, way, image, kernel, result):
    def body(sum_of_all, factor):
      return sum_of_all + gradient(operand, way, image, kernel, factor * result), ()

    return jax.lax.scan(body, jnp.zeros_like((image, kernel)[operand]), jnp.arange(1.0, loop + 1))

  both = ("gradient to the image", "gradient to the kernel")
  cases = (
    {f"{name}, in a loop": functools.partial(looped, i) for i, name in enumerate(both)}
    if loop
    else {
      "forward": lambda way, image, kernel, result: convolution(way, image, kernel),
      both[0]: functools.partial(gradient, 0),
    }
  )
  for what, f in cases.items():
    runs = {
      name: functools.partial(jax.jit(functools.partial(f, way)), image, kernel, result)
      for name, way in _WAYS.items()
    }
    seconds = in_turns(
      {**runs, "product": product}, min(args.rounds, _LOOP_ROUNDS) if loop else args.rounds
    )
    rate = 2 * MATRIX**3 / seconds["product"]
    yield {
      "pixels": size,
      "stride": stride,
      "what": what,
      **{name: float(f"{max(1, loop) * operations / seconds[name] / rate:.3g}") for name in _WAYS},
    }


def markdown(found):
  """The table."""
  lines = [
    "# Convolutions and their gradients",
    "",
    f"Share of the rate of a {MATRIX}x{MATRIX} float32 product that a 3x3 convolution "
    f"with {found['channels']} channels reaches, {found['batch_size']} images at a time. "
    "Operations on padding count, and a way that leaves them out can exceed 1.",
    "",
    "| image | stride | | `jax.lax` | `tcljax.convolve` |",
    "|---|---|---|---|---|",
  ]
  lines += [
    f"| {row['pixels']}x{row['pixels']} | {row['stride']} | {row['what']} | "
    f"{row['lax']:.4f} | {row['tcljax']:.4f} |"
    for row in found["rows"]
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
