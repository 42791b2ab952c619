"""Compiles the kernels for cards that are not here; prints a line of JSON with registers and spilled bytes for each.

`triton_compile.py all` compiles every configuration for every card, `triton_compile.py` one of each kernel for one.
With `all`, each kernel is also compiled with sizes of 1, which Triton makes constants.
"""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from convnn.layers.ops.triton import aggregate, attend, search
from convnn.layers.ops.triton.kernels import aggregate as aggregate_kernels
from convnn.layers.ops.triton.kernels import attend as attend_kernels
from convnn.layers.ops.triton.kernels.search import search_kernel

CAPABILITIES = (80, 90, 100)
SIZES = ("N", "M", "S", "C", "O", "D", "H", "W", "index_stride")
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def report(capabilities, kernel_name, kernel, types, constants, warps, aligned):
    """Compile a kernel for cards of these capabilities; `aligned` numbers are multiples of 16."""
    names = kernel.arg_names
    kinds = types | dict.fromkeys(constants, "constexpr")
    signature = {name: kinds[name] for name in names}
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if name.endswith("_ptr") or name in aligned
    }
    values = {(names.index(constant),): value for constant, value in constants.items()}
    for capability in capabilities:
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
        yield f"search, {channels} channels", search_kernel, types, constants, tiles.warps, aligned


def aggregates():
    numbers = dict.fromkeys(("T", "N", "S", "C", "O", "H", "W", "index_stride"), "i32")
    pointers = {
        "forward": {"x_ptr": "*X", "index_ptr": "*i16", "weight_ptr": "*X", "bias_ptr": "*X", "out_ptr": "*X"},
        "by_x": {"grad_ptr": "*X", "index_ptr": "*i16", "weight_ptr": "*X", "grad_x_ptr": "*fp32"},
        "by_weight": {"x_ptr": "*X", "index_ptr": "*i16", "grad_ptr": "*X", "parts_ptr": "*fp32"},
        "by_x_ordered": {
            "grad_ptr": "*X",
            "order_ptr": "*i64",
            "starts_ptr": "*i64",
            "weight_ptr": "*X",
            "grad_x_ptr": "*fp32",
        },
    }
    rows, outputs, channels = aggregate.BLOCK_ROWS, aggregate.BLOCK_OUTPUTS, aggregate.BLOCK_CHANNELS
    blocks = {
        "forward": (rows, channels, outputs),
        "by_x": (rows, outputs, channels),
        "by_weight": (channels, rows, outputs),
        "by_x_ordered": (rows, outputs, channels),
    }
    for name, dtype, precision in (
        *((name, "fp32", precision) for name in pointers for precision in ("tf32", "tf32x3")),
        *((name, "bf16", "tf32") for name in pointers),
    ):
        types = {pointer: kind.replace("X", dtype) for pointer, kind in pointers[name].items()}
        types |= dict.fromkeys(("ROWS", "S", "C", "O", "W", "P"), "i32") if name == "by_x_ordered" else numbers
        if name == "by_weight":
            types["STEP"] = "i32"
        constants = {"K": 9, "PH": 1, "PW": 1, "PRECISION": precision}
        constants |= dict(zip(("BT", "BD", "BO"), blocks[name], strict=True))
        kernel = getattr(aggregate_kernels, f"{name}_kernel")
        yield f"{name}, {dtype}, {precision}", kernel, types, constants, aggregate.WARPS, {"C", "O", "N", "S"}


def attends():
    pointers = {
        "forward": ("projections", "index", "keep", "weight", "bias", "attention", "out"),
        "backward": (
            *("grad", "projections", "index", "keep", "weight", "attention"),
            *("grad_projections", "grad_scores", "parts"),
        ),
        "by_source": (
            *("grad", "projections", "order", "starts", "keep", "weight", "attention"),
            *("grad_scores", "grad_projections"),
        ),
    }
    kinds = {"index": "*i16", "order": "*i64", "starts": "*i64"}
    for name, (channels, dtype, metric) in itertools.product(
        pointers, ((512, "fp32", "cosine"), (64, "fp32", "euclidean"), (3, "fp32", "cosine"), (2048, "bf16", "cosine"))
    ):
        types = {f"{pointer}_ptr": kinds.get(pointer, "*fp32") for pointer in pointers[name]}
        types |= {
            f"{pointer}_ptr": f"*{dtype}" for pointer in ("projections", "grad", "out") if pointer in pointers[name]
        }
        numbers = ("ROWS", "N", "S", "D", "W", "P") if name == "by_source" else ("T", "N", "S", "D", "H", "W")
        types |= dict.fromkeys(numbers, "i32")
        tiles = attend.attend_tiles(channels)
        constants = {"K": 9, "PH": 1, "PW": 1, "QH": 0, "QW": 0, "COSINE": metric == "cosine", "HAS_KEEP": True}
        constants |= {"BT": tiles.rows, "BD": tiles.channels}
        constants |= {} if name == "by_source" else {"SLOTS": 16}
        constants |= {"ADDS": True} if name == "backward" else {}
        kernel = getattr(attend_kernels, f"{name}_kernel")
        yield f"attend {name}, {channels}, {dtype}, {metric}", kernel, types, constants, tiles.warps, {"N", "S", "D"}


if __name__ == "__main__":
    compiled = set()
    for *names, kernel, types, constants, warps, aligned in (*searches(), *aggregates(), *attends()):
        is_all = sys.argv[1:] == ["all"]
        if is_all or kernel not in compiled:
            capabilities = CAPABILITIES if is_all else [CAPABILITIES[len(compiled) % len(CAPABILITIES)]]
            report(capabilities, *names, kernel, types, constants, warps, aligned)
            if is_all and kernel not in compiled:
                ones = constants | {size: 1 for size in SIZES if size in types}
                sizes = {name: kind for name, kind in types.items() if name not in ones}
                report(capabilities[:1], f"{names[0]}, sizes of 1", kernel, sizes, ones, warps, set())
            compiled.add(kernel)
