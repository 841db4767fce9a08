"""Runs commands in forks of a process that has imported their framework, which takes longer than a small command does.

Reads a job a line from stdin, {"module", "argv", "cwd", "scratch", "log", "limit"}, and answers with {"pid"} as the
command begins and {"status"} when it has ended. Each command has a session of its own, stdout and stderr in `log`.out
and `log`.err, and ends as an interpreter does, but for taking its modules apart.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback

LIBRARIES = {
    "torch": ("torch", "torchvision", "torch.utils.data", "cv2", "PIL.Image", "matplotlib.figure", "tyro", "tqdm", "jinja2",
              "multiprocessing.popen_spawn_posix", "multiprocessing.resource_sharer", "concurrent.futures.process"),
    "tensorflow": ("dgl_tf.registry", "tensorpack", "tensorpack.callbacks", "tensorpack.dataflow", "cv2", "tyro", "tqdm",
                   "concurrent.futures.thread"),
}  # fmt: skip


def serve(framework: str, modules: list[str]) -> None:
    """Answer jobs until stdin ends.

    Args:
        framework: what to import.
        modules: the commands to come. What they import is imported too; they themselves are forgotten again, so that
            each fork runs them as `python -m` does.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for library in LIBRARIES[framework]:
        importlib.import_module(library)
    if framework == "torch":
        importlib.import_module("torch").set_num_threads(1)
    for module in modules:
        importlib.import_module(module)
    for module in modules:
        package, _, name = module.rpartition(".")
        vars(sys.modules[package]).pop(name, None)
        del sys.modules[module]
    gc.freeze()  # or each fork's collector would touch, and so copy, all of it
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in requests:
        job = json.loads(line)
        begun, begins = os.pipe()
        copies = _copies(job) if job.get("limit") else []
        pid = os.fork()
        if pid == 0:
            for unused in (requests.fileno(), answers.fileno(), begun):
                os.close(unused)
            run(job, begins, [copy.stdin.fileno() for copy in copies])
        os.close(begins)
        for copy in copies:
            copy.stdin.close()
        os.read(begun, 1)
        os.close(begun)
        print(json.dumps({"pid": pid}), file=answers, flush=True)
        _, status = os.waitpid(pid, 0)
        for copy in copies:
            copy.wait()
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), file=answers, flush=True)


def _copies(job: dict) -> list[subprocess.Popen]:
    """Processes that write the logs of a command which itself may write no file of their size."""
    copies = []
    for stream in ("out", "err"):
        with open(f"{job['log']}.{stream}", "ab") as file:
            # Not for longer than a process that outlives the command may have them open.
            copies.append(subprocess.Popen(["timeout", "120", "cat"], stdin=subprocess.PIPE, stdout=file))
    return copies


def run(job: dict, begins: int, logs: list[int]) -> None:
    """Be the command; `logs` are open for stdout and stderr, or the log's files are opened."""
    os.setsid()
    for stream, number in (("out", 1), ("err", 2)):
        path = f"{job['log']}.{stream}"
        file = logs[number - 1] if logs else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    faulthandler.enable()  # SIGABRT shows where a command hangs
    os.chdir(job["cwd"])
    os.environ["TMPDIR"] = job["scratch"]
    tempfile.tempdir = None
    if job.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], resource.RLIM_INFINITY))
    sys.argv = [job["module"], *job["argv"]]
    os.write(begins, b"x")
    os.close(begins)
    status: int = 0
    try:
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
    except SystemExit as left:
        status = left.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
