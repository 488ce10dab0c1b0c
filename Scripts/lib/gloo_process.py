"""How processes that talk to each other through gloo find each other and end."""
import os
import socket
import sys


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def leave():
    """Ends this process without what PyTorch takes down behind it: now and then that aborts ("terminate called without an
    active exception"), long after everything was compared."""
    import torch.distributed as dist
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
