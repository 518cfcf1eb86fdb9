"""The kernels, bytes and collectives of programs that are written out here."""

import pytest

from tcljax.training import program_text
from tcljax.training.program_text import ProgramText, bytes_of_arrays

# The form in which XLA prints a program for GPUs: what its fusions compute, in more instructions
# than a loop has kernels; a loop in a loop; and the entry.
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

%fused_pick (data: u8[1000,8], rows: s32[64,4], i: s32[]) -> f32[4,8] {
  %data = u8[1000,8]{1,0} parameter(0)
  %rows = s32[64,4]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  %row = s32[1,4]{1,0} dynamic-slice(%rows, %i, %zero), dynamic_slice_sizes={1,4}
  %flat = s32[4,1]{1,0} bitcast(%row)
  %picked = u8[4,8]{1,0} gather(%data, %flat), offset_dims={1}
  ROOT %numbers = f32[4,8]{1,0} convert(%picked)
}

%inner (held: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %held = (s32[], f32[4,8]{1,0}) parameter(0)
  %before = f32[4,8]{1,0} get-tuple-element(%held), index=1
  %fire = f32[4,8]{1,0} custom-call(%before), custom_call_target="__gpu$xla.gpu.triton"
  ROOT %given = (s32[], f32[4,8]{1,0}) tuple(%held, %fire)
}

%body (carried: (s32[], f32[4,8], u8[1000,8], s32[64,4])) -> (s32[], f32[4,8]) {
  %carried = (s32[], f32[4,8]{1,0}, u8[1000,8]{1,0}, s32[64,4]{1,0}) parameter(0)
  %device = u32[] partition-id()
  %i = s32[] get-tuple-element(%carried), index=0
  %data = u8[1000,8]{1,0} get-tuple-element(%carried), index=2
  %rows = s32[64,4]{1,0} get-tuple-element(%carried), index=3
  %x = f32[4,8]{1,0} fusion(%data, %rows, %i), kind=kLoop, calls=%fused_pick
  %conv = (bf16[4,8]{1,0}, u8[16]{0}) custom-call(%x, %x), custom_call_target="__cudnn$convForward"
  %y = bf16[4,8]{1,0} get-tuple-element(%conv), index=0
  %added = f32[4,8]{1,0} fusion(%x, %y), kind=kLoop, calls=%fused_add
  %start = (s32[], f32[4,8]{1,0}) tuple(%i, %added)
  %steps = (s32[], f32[4,8]{1,0}) while(%start), condition=%c, body=%inner, \
backend_config={"known_trip_count":{"n":"8"}}
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%i, %added)
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %copied = f32[4,8]{1,0} copy(%a)
  %first = (s32[], f32[4,8]{1,0}) tuple(%copied)
  %loop = (s32[], f32[4,8]{1,0}) while(%first), condition=%condition, body=%body
  ROOT %b = f32[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""
_F32, _BF16, _U8 = 4 * 8 * 4, 4 * 8 * 2, 4 * 8


def test_kernels_read_their_operands_and_write_their_results():
  kernels = ProgramText.read(_PROGRAM).busiest_loop()
  assert [kernel.operation for kernel in kernels] == ["fusion", "custom-call", "fusion"]
  assert [kernel.moved for kernel in kernels] == [
    _F32 + _U8 + 4 * 4 + 4,  # of images and of the numbers of rows only what is picked
    2 * _F32 + _BF16 + 16,
    2 * _F32 + _BF16,
  ]
  assert "__cudnn$convForward" in kernels[1].attributes


def test_loops_count_as_often_as_they_are_known_to_run():
  """The loop of many steps is not: of it one step counts, and nothing around it."""
  program = ProgramText.read(_PROGRAM)
  a_step = sum(kernel.moved for kernel in program.busiest_loop()) + 8 * 2 * _F32
  assert program.moved() == a_step
  known = _PROGRAM.replace(
    "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"3"}}'
  )
  assert ProgramText.read(known).moved() == 2 * _F32 + 3 * a_step


def test_a_program_without_loops():
  entry = _PROGRAM[_PROGRAM.index("ENTRY") :].replace("while(", "custom-call(")
  program = ProgramText.read(entry)
  assert program.busiest_loop() == []
  assert program.moved() == 2 * _F32 + 2 * (4 + _F32)


def test_what_is_written_into_a_part_of_an_array_counts_as_that_part():
  """So a loop over chunks keeps what its gradient needs: fused or alone, or through a view."""
  text = """
%fused_keep (kept: f32[16,8], new: f32[8], at: s32[]) -> f32[16,8] {
  %kept = f32[16,8]{1,0} parameter(0)
  %new = f32[8]{0} parameter(1)
  %at = s32[] parameter(2)
  %view = f32[16,1,8]{2,1,0} bitcast(%kept)
  %row = f32[1,1,8]{2,1,0} bitcast(%new)
  %zero = s32[] constant(0)
  %put = f32[16,1,8]{2,1,0} dynamic-update-slice(%view, %row, %at, %zero, %zero)
  ROOT %root = f32[16,8]{1,0} bitcast(%put)
}

ENTRY %main (kept: f32[16,8], new: f32[8], at: s32[]) -> f32[16,8] {
  %kept = f32[16,8]{1,0} parameter(0)
  %new = f32[8]{0} parameter(1)
  %at = s32[] parameter(2)
  %fused = f32[16,8]{1,0} fusion(%kept, %new, %at), kind=kLoop, calls=%fused_keep
  %row = f32[1,8]{1,0} bitcast(%new)
  ROOT %alone = f32[16,8]{1,0} dynamic-update-slice(%fused, %row, %at, %at)
}
"""
  row = 4 * 8
  assert ProgramText.read(text).moved() == (2 * row + 4) + 2 * row


@pytest.mark.parametrize(
  "kind, shape",
  [("all-gather", "(f32[2,8]{1,0}, f32[16,8]{1,0})"), ("all-reduce", "f32[2,8]{1,0}")],
)
def test_collectives_in_two_halves_count_once(kind, shape):
  """The first half of a gathering names what it reads and gives, that of a sum what it gives."""
  text = f"""
ENTRY %main (a: f32[2,8]) -> f32[16,8] {{
  %a = f32[2,8]{{1,0}} parameter(0)
  %start = {shape} {kind}-start(%a), dimensions={{0}}
  ROOT %done = f32[16,8]{{1,0}} {kind}-done(%start)
}}
"""
  gives = 16 if kind == "all-gather" else 2
  assert ProgramText.read(text).moved() == 4 * 8 * (2 + gives)


def test_bytes_of_arrays():
  assert bytes_of_arrays("(f32[2,3]{1,0}, pred[4], bf16[5], s64[])") == 24 + 4 + 10 + 8
  assert bytes_of_arrays("token[]") == 0


def test_collectives_are_found_in_programs_of_all_kinds_of_devices():
  text = """
  %all-reduce.1 = (f32[16]{0:T(128)S(1)}, bf16[3,4]{1,0:T(8,128)(2,1)}) all-reduce(%a, %b), x={}
  %get-tuple-element.5 = f32[16]{0:T(128)} get-tuple-element(%all-reduce.1), index=0
  all-reduce.3 = pred[] all-reduce(c), replica_groups=[1,8]<=[8], to_apply=region_0
  %all-gather-start.2 = f32[8]{0} all-gather-start(%d), dimensions={0}
  %all-gather-done.2 = f32[8]{0} all-gather-done(%all-gather-start.2)
  """
  assert program_text.collectives(text) == {"all-reduce": (2, 64 + 24 + 1), "all-gather": (1, 32)}
  both = "((f32[16], bf16[4]), (f32[2], bf16[8]))"
  for text, size in (
    (f"%r = {both} reduce-scatter-start(%a, %b)", 8 + 16),
    ("%p = (f32[3], f32[3], u32[], u32[]) collective-permute-start(%a)", 12),
    ("%s = (f32[5], f32[3]) all-reduce-start(%a, %b)", 20 + 12),
  ):
    ((_, found),) = program_text.collectives(text).values()
    assert found == size, text
  assert program_text.collectives("ROOT %add = f32[2]{0} add(%a, %b)") == {}
