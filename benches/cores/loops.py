"""Finds the inner loops of the products in a disassembly of the arm64 build."""

import re
from dataclasses import dataclass, field

# The multiply-accumulates of one instruction, by mnemonic and by the arrangement of its first operand.
MACS = {
    ("sdot", "4s"): 16,
    ("usmmla", "4s"): 32,
    ("smull", "8h"): 8,
    ("smull2", "8h"): 8,
    ("smlal", "8h"): 8,
    ("smlal2", "8h"): 8,
    ("fmla", "4s"): 4,
}
# The instructions whose first operand is a sum of the results.
SUMS = {"sdot", "usmmla", "sadalp", "fmla"}
# Columns of a tile; float tiles have many shapes.
COLUMNS = {"neon": 8, "sdot": 16, "i8mm": 16}
MODULE = re.compile(r"\bcpu::(neon_float|neon|sdot|i8mm)::")
# The function with the float loops of `neon`; those of the other families have another order of loads.
GROUPED = "::multiply_float_grouped"

SYMBOL = re.compile(r"^[0-9a-f]+ <(.+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)(?:\s+(.*?))?\s*$")
TARGET = re.compile(r"(?:0x)?([0-9a-f]+) <[^>]*>$")
BRANCHES = {"b", "cbz", "cbnz", "tbz", "tbnz"}


@dataclass
class Instruction:
    """One line of a disassembly."""

    address: int
    mnemonic: str
    operands: str

    def target(self):
        """Returns the address that a branch goes to; None for other instructions."""
        if self.mnemonic not in BRANCHES and not self.mnemonic.startswith("b."):
            return None
        found = TARGET.search(self.operands)
        return int(found[1], 16) if found else None

    def macs(self):
        """Returns the multiply-accumulates that the instruction does; 0 for every other instruction."""
        arrangement = re.match(r"v\d+\.(\w+)", self.operands)
        return MACS.get((self.mnemonic, arrangement[1]), 0) if arrangement else 0

    def is_arithmetic(self):
        """Returns whether the instruction multiplies or sums."""
        return self.macs() > 0 or self.mnemonic in SUMS

    def assembly(self):
        """Returns the instruction as assembly; every branch goes to the label `0` before it."""
        operands = TARGET.sub("0b", self.operands) if self.target() is not None else self.operands
        return f"{self.mnemonic} {operands}"


@dataclass
class Loop:
    """The instructions from the target of a backward branch to the branch."""

    family: str
    body: list[Instruction] = field(repr=False)

    def macs(self):
        """Returns the multiply-accumulates of one round."""
        return sum(instruction.macs() for instruction in self.body)

    def sums(self):
        """Returns the number of registers that hold sums."""
        return len({i.operands.split(".")[0] for i in self.body if i.mnemonic in SUMS})

    def title(self):
        """Returns rows, columns and depth of a round; of a float loop, its products and its registers of sums."""
        if self.family not in COLUMNS:
            return f"{self.macs()} ({self.sums()} sums)"
        columns = COLUMNS[self.family]
        # A loop of sdot and i8mm is one step of sixteen; the sums of neon are one for each row and column.
        rows = self.sums() // columns if self.family == "neon" else self.macs() // (columns * 16)
        title = f"{rows} x {columns} x {self.macs() // (rows * columns)}"
        products = sum(1 for instruction in self.body if instruction.macs())
        additions = sum(1 for instruction in self.body if instruction.mnemonic == "sadalp")
        return f"{title} wide" if additions == products else title

    def assembly(self, arithmetic=False):
        """Returns the loop as assembly, or only what multiplies and sums."""
        chosen = [i.assembly() for i in self.body if i.is_arithmetic() or not arithmetic]
        return "\n".join(["0:", *chosen, ""])


def functions(disassembly):
    """Yields the name and the instructions of each function that `llvm-objdump --disassemble --no-show-raw-insn` printed."""
    name, body = None, []
    for line in disassembly.splitlines():
        if symbol := SYMBOL.match(line):
            if body:
                yield name, body
            name, body = symbol[1], []
        elif name and (found := INSTRUCTION.match(line)):
            body.append(Instruction(int(found[1], 16), found[2], found[3] or ""))
    if body:
        yield name, body


def inner_loops(disassembly):
    """Yields the loops of the kernels that hold no other loop and multiply."""
    for name, body in functions(disassembly):
        module = MODULE.search(name)
        if not module:
            continue
        family = module[1] if module[1] != "neon_float" else "grouped" if GROUPED in name else "float"
        at = {instruction.address: index for index, instruction in enumerate(body)}
        starts = [(at.get(instruction.target()), end) for end, instruction in enumerate(body)]
        spans = {(start, end) for start, end in starts if start is not None and start <= end}
        for start, end in sorted(spans):
            loop = Loop(family, body[start : end + 1])
            holds_another = any(other != (start, end) and start <= other[0] and other[1] <= end for other in spans)
            if not holds_another and loop.macs():
                yield loop
