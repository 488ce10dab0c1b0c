"""Has DeepSpeed write a checkpoint under ZeRO 3, then converts it with cairn and with ds_to_universal in turn.

universal_peer.py CAIRN FOLDER MEGABYTES ROUNDS RANKS
universal_peer.py make FOLDER MEGABYTES RANKS
"""
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time

WIDTH = 1024


def train(rank, ranks, folder, layers):
    """One step of a deep perceptron, so that there are moments, and a save."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1")
    import torch
    torch.set_num_threads(1)
    import deepspeed
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.init_distributed("gloo", verbose=False)
    options = {
        "train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "torch_adam": True}},
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }
    with deepspeed.zero.Init(config_dict_or_path=options, dtype=torch.bfloat16):
        blocks = [torch.nn.Sequential(torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.GELU(), torch.nn.Linear(4 * WIDTH, WIDTH))
                  for _ in range(layers)]
        model = torch.nn.Sequential(*blocks)
    engine = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=options)[0]
    engine.backward(engine(torch.randn(1, WIDTH, dtype=torch.bfloat16)).float().pow(2).mean())
    engine.step()
    engine.save_checkpoint(folder, tag="step")


def make(folder, megabytes, ranks):
    done = os.path.join(folder, "complete")
    if os.path.exists(done) and open(done).read() == f"{megabytes} {ranks}":
        return
    import torch
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    import socket
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["MASTER_PORT"] = str(free.getsockname()[1])
    # Twelve bytes of states a parameter.
    layers = max(1, round(megabytes * 1e6 / 12 / (8 * WIDTH * WIDTH)))
    torch.multiprocessing.spawn(train, (ranks, folder, layers), ranks)
    with open(done, "w") as file:
        file.write(f"{megabytes} {ranks}")


def run(command, target):
    """Seconds until the result is on the disk, and the most memory that one process had."""
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.sync()
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(errors.decode(errors="replace")[-2000:])
    return seconds, usage.ru_maxrss / 1024


def main():
    cairn, folder = sys.argv[1:3]
    if cairn == "make":
        return make(folder, *map(int, sys.argv[3:]))
    megabytes, rounds, ranks = map(int, sys.argv[3:])
    source = os.path.join(folder, "source")
    # In a process of its own: what starts others must be small, as their memory is counted from before they begin.
    subprocess.run([sys.executable, __file__, "make", source, str(megabytes), str(ranks)], check=True)
    targets = {name: os.path.join(folder, name) for name in ("cairn", "deepspeed", "deepspeed-parallel", "copy")}
    own = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--input_folder", source + "/step", "--inject_missing_state"]
    commands = {
        "cairn": [cairn, "convert", source, targets["cairn"], "--to", "deepspeed-universal", "--force"],
        "deepspeed": own + ["--output_folder", targets["deepspeed"] + "/step_universal", "--num_extract_workers", "1",
                            "--num_merge_workers", "1"],
        "deepspeed-parallel": own + ["--output_folder", targets["deepspeed-parallel"] + "/step_universal",
                                     "--num_extract_workers", str(os.cpu_count()), "--num_merge_workers", str(os.cpu_count())],
        "copy": ["cp", "-r", source, targets["copy"]],
    }
    results = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            result = run(command, targets[name])
            # The first round warms the page cache.
            if turn > 0:
                results[name].append(result)
    print(f"{megabytes} MB of ZeRO-3 states of {ranks} ranks to a universal checkpoint, {rounds} rounds, synced")
    for name, measured in results.items():
        seconds = [result[0] for result in measured]
        print(f"{name:20} {statistics.median(seconds):7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})  "
              f"{max(result[1] for result in measured):7.0f} MB at most")
    for target in targets.values():
        shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    main()
