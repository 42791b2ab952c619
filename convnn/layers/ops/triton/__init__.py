"""Triton kernels of the layers' operators, for CUDA on Linux. Plain torch is the definition and the fallback.

    launch.py            when a kernel is used: the device, what it is checked against, what switches it off
    search.py            neighbors, without a matrix of scores
    aggregate.py         the convolution over them, without what it gathers
    attend.py            the attention over them, likewise
    positions.py         the padding around a source, and the queries that chose each position
    kernels/             the kernels themselves, the only modules that import triton

Nothing else imports triton before a kernel is launched. With TRITON_INTERPRET=1 in the environment the kernels run on a
CPU, in Triton's interpreter, which is how they are tested.
"""
