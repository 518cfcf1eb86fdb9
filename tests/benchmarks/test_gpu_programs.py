"""What compiled programs move, as the benchmark tells it."""

from running import load_benchmark

_LOOP = """
%body (carried: (s32[], f32[500,500])) -> (s32[], f32[500,500]) {
  %carried = (s32[], f32[500,500]{1,0}) parameter(0)
  %x = f32[500,500]{1,0} get-tuple-element(%carried), index=1
  %conv = f32[500,500]{1,0} custom-call(%x, %x), custom_call_target="__cudnn$convForward"
  %fire = f32[500,500]{1,0} custom-call(%conv), custom_call_target="__gpu$xla.gpu.triton"
  %added = f32[500,500]{1,0} fusion(%fire, %conv), kind=kLoop, calls=%fused_add
  %kept = f32[500,500]{1,0} copy(%added)
  %sorted = f32[500,500]{1,0} sort(%kept), dimensions={0}
  ROOT %out = (s32[], f32[500,500]{1,0}) tuple(%x, %sorted)
}

ENTRY %main (a: f32[500,500]) -> f32[500,500] {
  %loop = (s32[], f32[500,500]{1,0}) while(%a), condition=%condition, body=%body
}
"""


def test_kernels_are_counted_by_kind():
  found = load_benchmark("gpu_programs").figures(_LOOP)
  by_kind = {  # of arrays of a megabyte
    "neurons": 2,
    "convolutions and products": 3,
    "copies": 2,
    "fusions": 3,
    "rest": 2,
  }
  assert found == {"kernels": 5, "megabytes": 12, "by_kind": by_kind}


def test_a_machine_that_cannot_compile_for_gpus_is_told_so(monkeypatch, capsys, tmp_path):
  benchmark = load_benchmark("gpu_programs")

  def refuse(topology):
    raise ValueError(f"{topology!r} cannot be")

  monkeypatch.setattr(benchmark.topologies, "devices_of", refuse)
  assert benchmark.main([f"--output={tmp_path / 'table'}"]) == 2
  assert capsys.readouterr().err == "gpu_programs: 'h100' cannot be\n"
  assert not list(tmp_path.iterdir())
