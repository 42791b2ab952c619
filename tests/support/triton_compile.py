"""Compiles the kernels for cards that are not here; prints a line of JSON with registers and spilled bytes for each."""

import itertools
import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from convnn.layers.ops.triton import search
from convnn.layers.ops.triton.kernels.search import search_kernel

CAPABILITIES = (80, 90, 100)
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def report(kernel_name, kernel, types, constants, warps, aligned):
    """Compile a kernel for every capability; `aligned` numbers are multiples of 16."""
    names = [*types, *constants]
    signature = types | dict.fromkeys(constants, "constexpr")
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, each in enumerate(names)
        if each.endswith("_ptr") or each in aligned
    }
    values = {(names.index(constant),): value for constant, value in constants.items()}
    for capability in CAPABILITIES:
        source = ASTSource(kernel, signature, constexprs=values, attrs=attributes)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            command = [TOOL, "--dump-resource-usage", file.name]
            usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
        shared = compiled.metadata.shared
        values_of = {"registers": int(registers), "stack": int(stack), "shared": shared, "warps": warps}
        print(json.dumps({"kernel": kernel_name, "capability": capability} | values_of), flush=True)


def searches():
    types = {
        "queries_ptr": "*fp32",
        "candidates_ptr": "*fp32",
        "penalty_ptr": "*fp32",
        "own_column_ptr": "*i64",
        "own_position_ptr": "*i16",
        "position_ptr": "*i16",
        "index_ptr": "*i16",
        "blocks": "i32",
        "N": "i32",
        "M": "i32",
        "C": "i32",
    }
    for channels, k in itertools.product((3, 64), (9,)):
        tiles = search.search_tiles(1032, channels)
        constants = {
            "HAS_PENALTY": True,
            "COUNT": k - 1,
            "SLOTS": 8,
            "TENSOR_CORES": channels >= search.MIN_CHANNELS,
            "BQ": tiles.queries,
            "BC": tiles.candidates,
            "BD": tiles.channels,
        }
        aligned = {"N", "C"} if channels % 16 == 0 else {"N"}
        report(f"search, {channels} channels", search_kernel, types, constants, tiles.warps, aligned)


if __name__ == "__main__":
    searches()
