"""The bytes that a compiled program moves, counted in a program that is written out here."""

from running import load_benchmark

# The form in which XLA prints a program: what a fusion computes, in more instructions than the loop
# has kernels, the loop, and the entry.
_PROGRAM = """HloModule jit_step

%fused_add (p0: f32[4,8], p1: bf16[4,8]) -> f32[4,8] {
  %p0 = f32[4,8]{1,0} parameter(0)
  %p1 = bf16[4,8]{1,0} parameter(1)
  %wide = f32[4,8]{1,0} convert(%p1)
  %a1 = f32[4,8]{1,0} add(%p0, %wide)
  %a2 = f32[4,8]{1,0} add(%a1, %wide)
  %a3 = f32[4,8]{1,0} add(%a2, %wide)
  %a4 = f32[4,8]{1,0} add(%a3, %wide)
  ROOT %sum = f32[4,8]{1,0} add(%a4, %wide)
}

%body (carried: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %carried = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%carried), index=1
  %conv = (bf16[4,8]{1,0}, u8[16]{0}) custom-call(%x, %x), custom_call_target="__cudnn$convForward"
  %y = bf16[4,8]{1,0} get-tuple-element(%conv), index=0
  %fire = f32[4,8]{1,0} custom-call(%x), custom_call_target="__gpu$xla.gpu.triton"
  %added = f32[4,8]{1,0} fusion(%fire, %y), kind=kLoop, calls=%fused_add
  %kept = f32[4,8]{1,0} copy(%added)
  %sorted = pred[4]{0} sort(%y), dimensions={0}
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%x, %kept)
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %start = (s32[], f32[4,8]{1,0}) custom-call(%a), custom_call_target="start"
  %loop = (s32[], f32[4,8]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %b = f32[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_kernels_read_their_operands_and_write_their_results(monkeypatch):
  benchmark = load_benchmark("gpu_programs")
  f32, bf16 = 4 * 8 * 4, 4 * 8 * 2
  moved = {
    "neurons": 2 * f32,
    "convolutions and products": 2 * f32 + bf16 + 16,
    "copies": 2 * f32,
    "fusions": 2 * f32 + bf16,
    "rest": bf16 + 4,
  }
  scale = 1_000_000  # so that bytes come out as megabytes
  of = benchmark.bytes_of_arrays
  monkeypatch.setattr(benchmark, "bytes_of_arrays", lambda shapes: scale * of(shapes))
  found = benchmark.figures(_PROGRAM)
  assert found == {"kernels": 5, "megabytes": sum(moved.values()), "by_kind": moved}


def test_a_machine_that_cannot_compile_for_gpus_is_told_so(monkeypatch, capsys, tmp_path):
  benchmark = load_benchmark("gpu_programs")

  def fail(*_, **__):
    raise RuntimeError("Unknown backend cuda\nand more")

  monkeypatch.setattr(benchmark.topologies, "get_topology_desc", fail)
  assert benchmark.main([f"--output={tmp_path / 'table'}"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "pip install 'tcljax[cuda]' (Unknown backend cuda)" in line
  assert not list(tmp_path.iterdir())
