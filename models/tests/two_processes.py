"""Runs a piece of training on two processes of this machine, as torchrun would start them."""

import os
import socket
import traceback

import torch
import torch.multiprocessing as mp


def run_on_two_processes(work, *arguments, timeout_s=300):
    """Calls `work(rank, *arguments)` in two forked processes and fails unless both end well within `timeout_s` seconds."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("fork")
    failed = context.Event()
    processes = [context.Process(target=_child, args=(work, rank, port, failed, arguments)) for rank in (0, 1)]
    for p in processes:
        p.start()
    for p in processes:
        p.join(timeout_s)
        if p.is_alive():
            p.kill()
    assert not failed.is_set() and all(p.exitcode == 0 for p in processes)


def _child(work, rank, port, failed, arguments):
    try:
        torch.set_num_threads(1)
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        work(rank, *arguments)
    except BaseException:
        traceback.print_exc()
        failed.set()
        raise
