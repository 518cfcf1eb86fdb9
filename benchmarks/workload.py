"""One piece of work in a process of its own, so that memory and compiling are those of it alone.

    python benchmarks/workload.py --what=simulation --model=vgg16 --batch_size=16 --time_steps=8

Weights are random: figures are times, not accuracies. `simulation` hands back what an evaluation
needs, the answer after every step; `tuning` is a whole step of phase 2, the optimizer's included.
The ANN's forward pass and a matrix product take turns with it. The last line printed is JSON.
benchmarks/speed.py runs this beside a rival.
"""

import argparse
import functools
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from measuring import MATRIX, in_turns

from tcljax import ReLU, SpikingConfig, calibrate, create_model, simulate
from tcljax.data import Preprocessing, Split, training_batches
from tcljax.distributed import parallel
from tcljax.kernels import xla_options
from tcljax.kernels.convolution import as_written
from tcljax.layers.activations import with_activation
from tcljax.layers.collections import CLIPPING
from tcljax.training import objectives
from tcljax.training.optimizers import OptimizerConfig
from tcljax.training.phase import Phase
from tcljax.training.step import train_step

MODELS = {"vgg16": {"batch_norm": False}, "resnet20": {}}
_CLASSES, _SHAPE = 10, (32, 32, 3)
_LOADED = 50_000


def main(argv=None):
  """Runs it and prints the figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
  )
  parser.add_argument("--what", choices=("simulation", "tuning", "loading"), required=True)
  parser.add_argument("--model", choices=tuple(MODELS), default="vgg16")
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--time_steps", type=int, default=8, help="T")
  parser.add_argument("--chunk", type=int, default=0, help="K; 0: automatic")
  parser.add_argument("--dtype", default="float32", help="what layers compute in")
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args(argv)
  print(json.dumps(loading(args) if args.what == "loading" else work(args)))
  return 0


def work(args):
  """The figures of a simulation or of a tuning step."""
  model, variables, x = network(args.model, args.dtype, args.batch_size)
  spiking = SpikingConfig(args.time_steps, args.chunk)

  start = time.perf_counter()
  run, temporary = {"simulation": compiled_simulation, "tuning": compiled_tuning_step}[args.what](
    model, variables, x, spiking
  )
  compiling = time.perf_counter() - start
  relu = with_activation(model, ReLU)
  # Compiled as the run is.
  options = xla_options.saving_memory() if args.what == "tuning" else {}
  ann = jax.jit(relu.apply, compiler_options=options)
  matrix = jnp.ones((MATRIX, MATRIX))
  seconds = in_turns(
    {
      "run": run,
      "ann": functools.partial(ann, variables, x),
      "product": functools.partial(jax.jit(jnp.matmul), matrix, matrix),
    },
    args.rounds,
  )
  rate = 2 * MATRIX**3 / seconds["product"]
  return {
    "device": jax.devices()[0].device_kind,
    "images_per_second": args.batch_size / seconds["run"],
    "over_ann": seconds["run"] / (args.time_steps * seconds["ann"]),
    "ann_images_per_second": args.batch_size / seconds["ann"],
    "ann_share_of_product": operations(relu.apply, variables, x) / seconds["ann"] / rate,
    "product_gflops": rate / 1e9,
    "compile_seconds": compiling,
    "temporary_mib": temporary / 2**20,
  }


def network(name, dtype, batch_size):
  """A model with random weights and plain thresholds, its variables, and random images."""
  model = create_model(name, _CLASSES, dtype=dtype, **MODELS[name])
  x = jax.random.normal(jax.random.key(1), (batch_size, *_SHAPE))
  variables = calibrate(
    model,
    jax.jit(model.init)(jax.random.key(0), x),
    [x],
    method="percentile",
    per_channel=False,
    v_init=0.5,
    instalments=1,
  )
  return model, variables, x


def loading(args):
  """Images per second from a split in memory to augmented arrays on the device."""
  rng = np.random.default_rng(0)
  split = Split(
    rng.integers(0, 256, (_LOADED, *_SHAPE), np.uint8), rng.integers(0, _CLASSES, _LOADED)
  )
  preprocess = jax.jit(Preprocessing(shift=4, flip=True))
  mesh, batches = parallel.data_mesh(), training_batches(split, args.batch_size, seed=0)
  count = max(1, _LOADED // args.batch_size)
  for number in range(count + 1):
    x = preprocess(parallel.shard(mesh, next(batches))["image"], jax.random.key(number))
    if not number:
      jax.block_until_ready(x)
      start = time.perf_counter()
  jax.block_until_ready(x)
  return {"images_per_second": count * args.batch_size / (time.perf_counter() - start)}


def compiled_simulation(model, variables, x, spiking):
  """A simulation that hands back the answer after every step; and its temporary bytes."""

  @jax.jit
  def run(variables, x):
    done = simulate(model, variables, x, spiking, observe=lambda chunk: chunk.logits.argmax(-1))
    return done.logits, done.observed

  compiled = run.lower(variables, x).compile()
  return (functools.partial(compiled, variables, x), compiled.memory_analysis().temp_size_in_bytes)


def compiled_tuning_step(model, variables, x, spiking):
  """A whole step of phase 2; and its temporary bytes."""
  mesh = parallel.data_mesh()
  objective = objectives.tuning_objective(model, lambda images, key: images, spiking, mesh)
  phase = Phase("tuning", 1000, len(x), objective, {CLIPPING: OptimizerConfig("adamw", 0.02)})
  state = parallel.replicate(mesh, phase.new_state(variables))
  batch = parallel.shard(mesh, {"image": np.asarray(x), "label": np.arange(len(x)) % _CLASSES})
  key = jax.random.key(0)
  compiled = train_step(phase.step()).lower(state, batch, key).compile()

  def run():
    nonlocal state
    state, metrics = compiled(state, batch, key)
    return metrics

  return run, compiled.memory_analysis().temp_size_in_bytes


def operations(function, *arguments):
  """Multiplications and additions of all convolutions and products, those on padding included.

  As they are written, not as they are computed; `function` itself is not compiled.
  """
  with as_written():  # in a function of its own, or JAX would take what it has traced before
    return _operations(jax.make_jaxpr(lambda *args: function(*args))(*arguments).jaxpr)


def _operations(jaxpr):
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("conv_general_dilated", "dot_general"):
      kernel, output = equation.invars[1].aval, equation.outvars[0].aval
      total += 2 * output.size * (kernel.size // kernel.shape[-1])
    for inner in equation.params.values():
      if isinstance(inner, core.ClosedJaxpr):
        total += _operations(inner.jaxpr)
  return total


if __name__ == "__main__":
  sys.exit(main())
