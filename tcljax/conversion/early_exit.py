"""Early exit: an image leaves the simulation as soon as its answer is settled.

Settled is an answer whose *margin*, the largest mean output less the second largest, has reached a
threshold that was chosen on training images. Of a single output, a binary classifier's, the margin
is its distance from 0, where the answer changes. Easy images need few steps, and the time of a
batch is the sum of what its images need rather than T for each of them.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from tcljax.checks import check_batches, check_least, check_number
from tcljax.conversion.network import SpikingNetwork, check_network
from tcljax.graph import Graph, GraphNetwork
from tcljax.layers.collections import Variables, without_broken
from tcljax.maths.encoding import as_simulated, count_examples
from tcljax.maths.inputs import are_keys
from tcljax.maths.trees import Tree, is_shape, thawed
from tcljax.simulation import outputs
from tcljax.simulation.outputs import check_classes, margins
from tcljax.simulation.settings import ChunkConfig, SpikingConfig
from tcljax.simulation.time_loop import in_chunks, simulate

# A batch that fewer images than this are left of shrinks no more: small ones take as long.
_SMALLEST_BATCH = 8
_CANDIDATES = 512


class Settled(NamedTuple):
  """What `answer_early` hands back.

  Attributes:
    logits: mean output of each image when it left, [B, C].
    time_steps: after how many steps it left, [B].

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1))
    >>> settled = tcljax.answer_early(network, images, margin=0.2, time_steps=32)
    >>> settled.logits.shape, bool(settled.time_steps.mean() < 32)  # some left early
    ((8, 3), True)
  """

  logits: np.ndarray
  time_steps: np.ndarray


def answer_early(
  network: SpikingNetwork,
  x: Any,
  margin: float,
  time_steps: int | None = None,
  keys: jax.Array | None = None,
) -> Settled:
  """Simulates a batch, from which images leave when their answers are settled.

  Whether they are is looked at after every K steps, K as `tcljax.simulate` chooses it where the
  network's settings do not. The batch shrinks by halves; a compiled program serves each size, and
  any T.

  Args:
    network: a converted network whose only output are classes, [B, C].
    x: inputs as the network was trained on (normalised images), [B, ...]; where the encoding is
      "frames" [T, B, ...]. A tuple or dictionary of these where the network takes several arrays.
    margin: the margin at which an answer is settled, in units of the output; see `choose_margin`.
    time_steps: T, after which every image leaves; by default that of `network.spiking`, and of
      frames their number.
    keys: random keys, [B], where the encoding is "poisson".

  Returns:
    Answers and steps. An image that stayed to the end has the answer of `network(x)`.

  Raises:
    ValueError: if this is no `SpikingNetwork`, the inputs or keys do not fit it, its output is not
      [B, C], T < 1, or the margin is negative.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1))
    >>> patient = tcljax.answer_early(network, images, margin=float("inf"))
    >>> bool((patient.logits == network(images)).all())  # nobody left before T = 8
    True
    >>> tcljax.answer_early(network, images, margin=0).time_steps.tolist()
    [1, 1, 1, 1, 1, 1, 1, 1]
  """
  _check_one_output(network)
  check_least("margin", margin, 0)
  x, spiking = network.checked(x, time_steps, keys)
  as_simulated("x", x, spiking.encoding)
  graph, variables = network.graph, network.variables
  config, count = spiking.one_chunk, count_examples(x, spiking.encoding)
  rows = np.arange(count)  # which image each place of the batch holds
  waiting = np.full(count, True)
  _, total = carry = _start(graph, config, variables, x, keys)
  check_classes(total, count)
  logits, left_after = np.empty(total.shape, total.dtype), np.full(count, spiking.time_steps)
  for t in range(spiking.chunk, spiking.time_steps + 1, spiking.chunk):
    carry, answers = _next_steps(graph, config, variables, x, keys, carry, t - spiking.chunk)
    answers = np.asarray(answers)
    leaves = waiting & (t > spiking.delay) & (margins(answers) >= margin)
    leaves |= waiting & (t == spiking.time_steps)
    logits[rows[leaves]], left_after[rows[leaves]] = answers[leaves], t
    waiting &= ~leaves
    stay = np.flatnonzero(waiting)
    if not len(stay):
      break
    size = _batch_size(count, len(stay))
    if size < len(rows):
      places = np.resize(stay, size)  # images twice fill it up
      x, keys, carry = _at_places(spiking.encoding, x, keys, carry, places)
      rows, waiting = rows[places], np.arange(size) < len(stay)
  return Settled(logits, left_after)


def choose_margin(
  network: SpikingNetwork,
  batches: Iterable[Any],
  time_steps: int | None = None,
  changed: float = 0.01,
) -> float:
  """The least margin that leaves nearly all answers as they are after T steps.

  Args:
    network: a converted network whose only output are classes.
    batches: training inputs, each [B, ...], of frames [T, B, ...], or a tuple or dictionary of
      these where the network takes several arrays; where the encoding is "poisson", pairs of such
      and random keys, [B]. Their answers are surer than those of images that
      the network was not trained on: ask for a tenth of the change that may be.
    time_steps: T, by default that of `network.spiking`, and of frames their number.
    changed: percent of the images that may leave with another answer than they have after T steps.

  Returns:
    The margin, in units of the output; infinite where no margin does.

  Raises:
    ValueError: if this is no `SpikingNetwork`, there are no inputs, they come with anything but
      keys or do not fit the network, its output is not [B, C] or not finite, or `changed` is no
      percentage.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1))
    >>> margin = tcljax.choose_margin(network, [images], changed=0)
    >>> early = tcljax.answer_early(network, images, margin).logits
    >>> bool((early.argmax(-1) == network(images).argmax(-1)).all())  # no answer is another
    True
  """
  _check_one_output(network)
  check_changed("changed", changed)
  check_batches(batches)
  found, others = [], []
  for batch in batches:
    x, keys = _inputs_and_keys(network, batch)
    x, spiking = network.checked(x, time_steps, keys)
    as_simulated("batches", x, spiking.encoding)
    graph, variables = network.graph, network.variables
    _, output = _start.eval_shape(graph, spiking.one_chunk, variables, x, keys)
    check_classes(output, count_examples(x, spiking.encoding))
    logits, last = map(np.asarray, _every_answer(graph, spiking, variables, x, keys))
    if not np.isfinite(last).all():  # each step's answers may hide a potential that is not finite
      raise ValueError("the network's output is not finite for some of the inputs")
    looked_at = range(spiking.chunk - 1, spiking.time_steps, spiking.chunk)
    logits = logits[[t for t in looked_at if t >= spiking.delay]]
    found.append(margins(logits))
    others.append(outputs.answers(logits) != outputs.answers(logits[-1]))
  if not found:
    raise ValueError("batches is empty: give training inputs to choose the margin on")
  return _least_margin(np.concatenate(found, axis=1), np.concatenate(others, axis=1), changed)


def margin_of_answers(logits: np.ndarray, delay: int, changed: float) -> float:
  """`choose_margin` of images whose answers after each step are known, [T, images, classes]."""
  others = outputs.answers(logits) != outputs.answers(logits[-1])
  return _least_margin(margins(logits)[delay:], others[delay:], changed)


def _least_margin(found: np.ndarray, others: np.ndarray, changed: float) -> float:
  """As `choose_margin`, of margins, and whether answers differ from the last, [looks, images]."""
  # In float32, as margins are: rounded later, one might let images leave that it kept here.
  candidates = np.unique(np.quantile(found, np.linspace(0, 1, _CANDIDATES)).astype(np.float32))
  best = math.inf
  for candidate in candidates[::-1]:
    if 100 * others[leaving_at(found, candidate), np.arange(found.shape[1])].mean() > changed:
      break
    best = float(candidate)
  return best


def _check_one_output(network: Any) -> None:
  """Raises ValueError unless this is a `SpikingNetwork` with one output."""
  check_network(network)
  if not isinstance(network.graph.output, str):
    kind = type(thawed(network.graph.output)).__name__
    raise ValueError(
      f"the network answers with a {kind} of {len(network.graph.outputs())} arrays: early exit is "
      "for networks that answer with one, [batch, classes]"
    )


def _inputs_and_keys(network: SpikingNetwork, batch: Any) -> tuple[Any, Any]:
  """A batch taken apart; keys are None where there are none.

  Raises:
    ValueError: if this is neither inputs, as the network takes them, nor a pair of inputs and
      random keys.
  """
  one = is_shape(network.input_shape)
  if isinstance(batch, tuple) and len(batch) == 2 and (batch[1] is None or are_keys(batch[1])):
    if one or isinstance(batch[0], (tuple, dict)):
      return batch[0], batch[1]
  if not one or not isinstance(batch, (tuple, list, dict)):
    return batch, None
  raise ValueError(
    f"batches holds a {type(batch).__name__} of {len(batch)}: give inputs alone, without labels, "
    "or pairs of inputs and random keys where the encoding is 'poisson'"
  )


def check_changed(field: str, changed: float) -> None:
  """Raises ValueError unless this is a percentage."""
  check_number(field, changed)
  if not 0 <= changed <= 100:
    raise ValueError(f"{field}={changed} must be a percentage, from 0 to 100")


def leaving_at(found: np.ndarray, margin: float) -> np.ndarray:
  """For each image the first look at which its margin is wide enough, or else the last look."""
  wide = found >= margin
  return np.where(wide.any(axis=0), wide.argmax(axis=0), len(found) - 1)


def _batch_size(count: int, left: int) -> int:
  """The least of count, count / 2, count / 4, ..., rounded up, that holds them."""
  size = count
  while (half := -(-size // 2)) >= max(left, _SMALLEST_BATCH):
    size = half
  return size


@functools.partial(jax.jit, static_argnums=(0, 1))
def _start(
  graph: Graph, config: ChunkConfig, variables: Variables, x: Tree, keys: jax.Array | None
) -> Any:
  return in_chunks(GraphNetwork(graph), variables, x, config, keys=keys)[0]


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
def _next_steps(
  graph: Graph,
  config: ChunkConfig,
  variables: Variables,
  x: Tree,
  keys: jax.Array | None,
  carry: Any,
  first_step: int,
) -> tuple[Any, jax.Array]:
  """The carry after K more steps, and the answers then."""
  _, run = in_chunks(
    GraphNetwork(graph), variables, x, config, keys=keys, observe=lambda chunk: chunk.logits
  )
  carry, answers = run(carry, first_step)
  return carry, without_broken(answers[-1], carry[0])


@functools.partial(jax.jit, static_argnums=0)
def _at_places(
  encoding: str, x: Tree, keys: jax.Array | None, carry: Any, places: np.ndarray
) -> tuple[Tree, jax.Array | None, Any]:
  """What belongs to these places of the batch; scalars of the state belong to all."""
  x = jax.tree.map(lambda a: a[:, places] if encoding == "frames" else a[places], x)
  return x, *jax.tree.map(lambda a: a[places] if a.ndim else a, (keys, carry))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _every_answer(
  graph: Graph, spiking: SpikingConfig, variables: Variables, x: Tree, keys: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """The answers after each step, and the last ones, NaN where a potential is not finite."""
  done = simulate(
    GraphNetwork(graph), variables, x, spiking, keys=keys, observe=lambda chunk: chunk.logits
  )
  return done.observed, done.logits
