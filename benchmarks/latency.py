"""Accuracy against T of a pretrained network, every recipe of ours and SpikingJelly's side by side.

    python benchmarks/latency.py --pretrained=PATH --model=resnet32 --steps=8

The network is one that `tcljax.load_pretrained` reads. Data, preprocessing and tuning are those of
--config, by default configs/resnet20.py; --config.FIELD=VALUE overrides a field of it. Writes
OUTPUT.json, .md and .png. Stopped and started again it goes on where it was.

--spikingjelly=COMMAND runs a rival's script on the same weights and images and puts its figures
beside ours: COMMAND takes --recipe, --passes, --steps and --images and prints, as its last line,
JSON with `images` and `accuracy_at_T`.
"""

import argparse
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys

import jax

from tcljax import latency, report
from tcljax.commands import latency as command
from tcljax.files import write_text

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER_RECIPES = {
    "max norm": ["--recipe=Max"],
    "robust norm 99.9 %": ["--recipe=99.9%"],
    "local threshold balancing, 50 passes": ["--recipe=ltb", "--passes=50"],
    "local threshold balancing, 200 passes": ["--recipe=ltb", "--passes=200"],
}
_NOT_DRAWN = (latency.QUANTIZED, latency.QUANTIZED_ALL, "max norm")


def main(argv=None):
  """Runs the benchmark; returns the exit status of the comparison."""
  argv = sys.argv[1:] if argv is None else argv
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--pretrained", required=True, help="checkpoint of the network")
  parser.add_argument("--model", default="resnet20", help="its name in tcljax.models")
  parser.add_argument("--steps", default="4,8,16,32,64", help="numbers of steps T")
  parser.add_argument("--images", type=int, default=0, help="test images, the first ones; 0: all")
  parser.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  parser.add_argument("--workdir", help="by default runs/latency-MODEL")
  parser.add_argument("--output", help="by default benchmarks/results/latency (resnet20), or "
                      "latency-MODEL")
  parser.add_argument("--spikingjelly", help="command of the rival's script")
  args, rest = parser.parse_known_args(argv)
  workdir = pathlib.Path(args.workdir or f"runs/latency-{args.model}")
  default = "latency" if args.model == "resnet20" else f"latency-{args.model}"
  output = pathlib.Path(args.output or ROOT / "benchmarks" / "results" / default)

  status = command.main([
      "latency", f"--config={args.config}", f"--config.pretrained={args.pretrained}",
      f"--config.model.name={args.model}", f"--workdir={workdir}", f"--steps={args.steps}",
      f"--images={args.images}", *rest])
  if status:
    return status
  results = json.loads((workdir / "latency.json").read_text())
  steps = sorted(int(t) for t in args.steps.split(","))
  tables = {("tcljax", recipe): curve for recipe, curve in latency.curves(results).items()}
  if args.spikingjelly:
    peer = _peer_curves(args.spikingjelly, workdir / "spikingjelly.json", steps, results["images"])
    tables |= {("SpikingJelly", recipe): curve for recipe, curve in peer.items()}
  rows = [{"system": system, "recipe": recipe, "model": args.model, "T": t,
           "images": results["images"], "accuracy": round(curve[t], 2)}
          for (system, recipe), curve in tables.items() for t in steps if t in curve]
  found = {"command": f"python benchmarks/latency.py {' '.join(map(_portable, argv))}",
           "machine": machine(), "ann": round(results["ann"], 2), "rows": rows}
  output.parent.mkdir(parents=True, exist_ok=True)
  write_text(output.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
  write_text(output.with_suffix(".md"), _markdown(found, args.model, tables, steps,
                                                  results["images"]))
  report.plot_curves(
      output.with_suffix(".png"),
      {f"{system}: {recipe}": {t: curve[t] for t in steps if t in curve}
       for (system, recipe), curve in reversed(tables.items())
       if recipe not in _NOT_DRAWN},
      results["ann"], args.model)
  print(f"written: {output}.json, .md and .png")
  return 0


def _peer_curves(peer, path, steps, images):
  """Accuracy by T of each of the rival's recipes; each is kept as soon as it is known."""
  asked = {"images": images, "steps": steps}
  known = json.loads(path.read_text()) if path.exists() else {}
  if known.get("asked") != asked:
    known = {"asked": asked, "curves": {}}
  for recipe, flags in PEER_RECIPES.items():
    if recipe not in known["curves"]:
      print(f"SpikingJelly, {recipe} ...", flush=True)
      done = subprocess.run(
          [*shlex.split(peer), *flags, f"--steps={steps[-1]}", f"--images={images}"],
          capture_output=True, text=True, check=False)
      if done.returncode:
        sys.exit(f"latency: --spikingjelly={peer} failed: {done.stderr.strip().splitlines()[-1:]}")
      answer = json.loads(done.stdout.strip().splitlines()[-1])
      if answer["images"] != images:
        sys.exit(f"latency: the rival measured {answer['images']} images, asked were {images}")
      known["curves"][recipe] = answer["accuracy_at_T"]
      write_text(path, json.dumps(known, indent=2) + "\n")
  return {recipe: {int(t): accuracy for t, accuracy in curve.items()}
          for recipe, curve in known["curves"].items()}


def machine():
  """The machine in words: cores, processor, device, jax."""
  processor = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  if cpuinfo.exists():
    names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines()
             if line.startswith("model name")]
    processor = names[0] if names else processor
  device = jax.devices()[0]
  what = "CPU" if device.platform == "cpu" else device.device_kind
  return f"{os.cpu_count()} cores of {processor}; {what}; jax {jax.__version__}"


def _portable(argument):
  """The argument as it reads on another machine: places that variables name by their variable."""
  for name in ("TCLJAX_WEIGHTS_DIR", "TFDS_DATA_DIR", "SPIKINGJELLY"):
    if value := os.environ.get(name):
      argument = argument.replace(value, f"${name}")
  return f'"{argument}"' if " " in argument else argument


def _markdown(found, model, tables, steps, images):
  lines = [
      f"# Accuracy against T: {model}", "",
      f"In percent of {images} test images; the ANN has {found['ann']:.2f}. Weights untouched, "
      "binary integrate-and-fire neurons, every step counted.", "",
      "| system | recipe | " + " | ".join(f"T={t}" for t in steps) + " |",
      "|---|---|" + "---|" * len(steps)]
  for (system, recipe), curve in tables.items():
    cells = [f"{curve[t]:.2f}" if t in curve else "" for t in steps]
    lines.append(f"| {system} | {recipe} | {' | '.join(cells)} |")
  lines += ["", "The quantised ANN is no spiking network: it is what the same thresholds would "
            "give if no spike came too early or too late.", "",
            "```bash", found["command"], "```", "", found["machine"], ""]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
