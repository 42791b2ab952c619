"""A data worker that cannot deliver is an error that says why; a run that waits for one is asked again and again."""

import pytest
from support.worker_data import Ending, Unpicklable
from torch.utils.data import DataLoader

from convnn.data.worker_processes import POLL_SECONDS, poll_batches, prepare_worker, start_server
from convnn.errors import UserError


def batches(dataset):
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=1,
        multiprocessing_context=start_server("torch"),
        worker_init_fn=prepare_worker,
        timeout=POLL_SECONDS,
    )
    return poll_batches(loader, batch_bytes=300_000)


@pytest.mark.parametrize(
    ("dataset", "words"), [(Unpicklable(), "cannot hand over a batch of 293 KiB"), (Ending(), "ended with code 7")]
)
def test_worker_that_cannot_deliver_is_named_with_a_fix(dataset, words):
    with pytest.raises(UserError, match=words) as raised:
        list(batches(dataset))
    assert "--workers 0" in raised.value.problems[0].fix


def test_none_is_yielded_while_a_batch_is_waited_for():
    stream = batches(range(3))
    values = list(stream)
    assert [value for value in values if value is not None] == [0, 1, 2]
    stream = batches(range(100))
    next(stream)
    stream.close()  # kills the worker
