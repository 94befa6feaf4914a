"""benches/cores: the loops in a disassembly, the report of llvm-mca, and the tables of docs/engine.md."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches" / "cores"))

import loops
import machine
import table

DISASSEMBLY = """
libfaceptor_nn.rlib(one.o):\tfile format elf64-littleaarch64

Disassembly of section .text.one:

0000000000000000 <faceptor_nn::cpu::neon::multiply_int8::h0123456789abcdef>:
       0:      \tcbz\tx9, 0x30 <faceptor_nn::cpu::neon::multiply_int8::h0123456789abcdef+0x30>
       4:      \tldr\tq24, [x0, x1]
       8:      \tsmull\tv26.8h, v24.8b, v16.8b
       c:      \tsmlal2\tv26.8h, v24.16b, v16.16b
      10:      \tsadalp\tv0.4s, v26.8h
      14:      \tsubs\tx9, x9, #0x1
      18:      \tb.ne\t0x4 <faceptor_nn::cpu::neon::multiply_int8::h0123456789abcdef+0x4>
      1c:      \tadd\tx2, x2, #0x10
      20:      \tcmp\tx2, x3
      24:      \tb.lo\t0x0 <faceptor_nn::cpu::neon::multiply_int8::h0123456789abcdef>
      28:      \tret

0000000000000000 <faceptor_nn::cpu::sdot::multiply_int8::h0123456789abcdef>:
       0:      \tsdot\tv0.4s, v30.16b, v24.4b[0]
       4:      \tsdot\tv4.4s, v30.16b, v25.4b[0]
       8:      \tcbnz\tx20, 0x0 <faceptor_nn::cpu::sdot::multiply_int8::h0123456789abcdef>

0000000000000000 <faceptor_nn::cpu::neon_float::multiply_float::h0123456789abcdef>:
       0:      \tfmla\tv0.4s, v1.4s, v2.s[0]
       4:      \tb.ne\t0x0 <faceptor_nn::cpu::neon_float::multiply_float::h0123456789abcdef>

0000000000000000 <faceptor_nn::cpu::neon_float::multiply_float_grouped::h0123456789abcdef>:
       0:      \tfmla\tv0.4s, v1.4s, v2.s[0]
       4:      \tb.ne\t0x0 <faceptor_nn::cpu::neon_float::multiply_float_grouped::h0123456789abcdef>

0000000000000000 <faceptor_nn::ops::softmax::run::h0123456789abcdef>:
       0:      \tfmla\tv0.4s, v1.4s, v2.s[0]
       4:      \tb.ne\t0x0 <faceptor_nn::ops::softmax::run::h0123456789abcdef>
"""


def report(cycles, best):
    view = {"BlockRThroughput": best, "DispatchWidth": 2, "IPC": 1.1, "Iterations": 100, "TotalCycles": cycles, "TotaluOps": 0}
    return json.dumps({"CodeRegions": [{"Instructions": [], "Name": "", "SummaryView": view}], "TargetInfo": {"CPUName": "cortex-a53"}})


def test_the_inner_loops_of_the_kernels_are_found():
    found = list(loops.inner_loops(DISASSEMBLY))
    assert [loop.family for loop in found] == ["neon", "sdot", "float", "grouped"]
    inner, dot, *_ = found
    assert [i.mnemonic for i in inner.body] == ["ldr", "smull", "smlal2", "sadalp", "subs", "b.ne"]
    assert (inner.macs(), inner.sums()) == (16, 1)
    assert (dot.macs(), dot.sums()) == (32, 2)


def test_a_loop_becomes_assembly_that_branches_to_its_start():
    inner, dot, *_ = loops.inner_loops(DISASSEMBLY)
    assert inner.assembly().splitlines()[0] == "0:"
    assert inner.assembly().splitlines()[-1] == "b.ne 0b"
    assert dot.assembly().splitlines()[-1] == "cbnz x20, 0b"
    products = inner.assembly(arithmetic=True).splitlines()
    assert [line.split()[0] for line in products] == ["0:", "smull", "smlal2", "sadalp"]


def test_titles_name_the_shape_of_a_round():
    def loop(family, *lines):
        return loops.Loop(family, [loops.Instruction(4 * i, *line.split(" ", 1)) for i, line in enumerate(lines)])

    rows = [f"sdot v{sum}.4s, v30.16b, v{24 + sum // 4}.4b[{lane}]" for lane in range(4) for sum in range(24)]
    assert loop("sdot", *rows).title() == "6 x 16 x 16"
    narrow = [f"{op} v26.8h, v24.8b, v16.8b" for op in ("smull", "smlal2") for _ in range(16)]
    additions = [f"sadalp v{sum}.4s, v26.8h" for sum in range(16)]
    assert loop("neon", *narrow, *additions).title() == "2 x 8 x 16"
    assert loop("neon", *narrow, *additions, *additions).title() == "2 x 8 x 16 wide"
    assert loop("float", "fmla v0.4s, v20.4s, v24.s[0]", "fmla v1.4s, v21.4s, v24.s[0]").title() == "8 (2 sums)"


def test_the_report_of_llvm_mca_is_read():
    assert machine.parse(report(1234, 51.5)) == machine.Summary(1234, 51.5)
    with pytest.raises(ValueError, match="2 regions instead of one"):
        machine.parse(json.dumps({"CodeRegions": [{}, {}]}))


def test_a_prediction_leaves_out_the_first_rounds(monkeypatch):
    cycles = {100: 530, 300: 1530, 1: 9}
    monkeypatch.setattr(machine, "simulate", lambda program, core, assembly, rounds: machine.parse(report(cycles[rounds], 4.5)))
    loop = next(loops.inner_loops(DISASSEMBLY))
    assert machine.predict("llvm-mca", "cortex-a53", loop) == machine.Prediction(cycles=5.0, best=4.5, products=4.5)


def test_the_bound_is_wider_for_cores_that_execute_in_order():
    prediction = machine.Prediction(cycles=11.4, best=10, products=9)
    assert prediction.is_within("cortex-a53") and not prediction.is_within("cortex-a76")


def test_cells_hold_cycles_rate_and_percent_and_are_bold_above_the_bound():
    loop = next(loops.inner_loops(DISASSEMBLY))
    assert table.cell("cortex-a53", loop, machine.Prediction(11, 10, 8.8)) == "11 / 10, 1.45, 80 %"
    assert table.cell("cortex-a57", loop, machine.Prediction(12, 10, 9)) == "**12 / 10**, 1.33, 75 %"


def test_only_the_text_between_the_marks_is_replaced():
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.replace(page, "new") == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    with pytest.raises(ValueError, match="lacks the lines"):
        table.replace("a page", "new")


def test_every_core_runs_its_own_family_and_those_before():
    assert machine.families("cortex-a53") == {"neon", "grouped"}
    assert machine.families("cortex-a510") == {"neon", "sdot", "i8mm", "float"}
    assert machine.IN_ORDER.issubset(machine.CORES)
